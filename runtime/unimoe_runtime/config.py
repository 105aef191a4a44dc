"""Configuration of the model and of sampling: one definition for training, export and runtime.

The classes are frozen, keyword-only, validated on construction and independent of any framework, so that a bundle's
manifest and a checkpoint's config.json hold exactly these fields. Upper limits are far above every known model: they
bound the memory that a malicious file can make this process allocate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unimoe_runtime.records import Between, JsonRecord, Length, require

Weighting = Literal["probability", "sparsemixer"]
Selection = Literal["top_p", "top_k"]
DropPolicy = Literal["probs", "position"]

MAX_LAYERS = 4096
MAX_EXPERTS = 4096
MAX_DELAY = 4096
Width = Annotated[int, Between(1, 1 << 24)]
Experts = Annotated[int, Between(0, MAX_EXPERTS)]
Share = Annotated[float, Between(0, 1, above=True)]
Noise = Annotated[float, Between(0, 0.999999)]
Weight = Annotated[float, Between(0, 1e6)]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(JsonRecord):
    """Shape and routing of one UniMoE-Audio model.

    Router rows come in the order routed, null, shared; shared rows exist only with the `sparsemixer`
    weighting, where shared experts take part in the last softmax (`num_router_rows`).
    Codec ids of one codebook: 0 … codebook_size - 1 are codes, then EOS, PAD, BOS.
    With `token_drop`, for training, an expert takes at most capacity_factor times its even share of the tokens
    (and no fewer than min_capacity): those of the largest logits ("probs") or the first ones ("position").
    """

    text_vocab_size: Width
    hidden_size: Width
    num_layers: Annotated[int, Between(1, MAX_LAYERS)]
    num_heads: Annotated[int, Between(1, 1 << 16)]
    num_kv_heads: Annotated[int, Between(1, 1 << 16)]
    head_dim: Annotated[int, Between(2, 1 << 16)]
    num_routed_experts: Experts
    num_null_experts: Experts
    num_shared_experts: Experts
    routed_intermediate_size: Annotated[int, Between(0, 1 << 24)]
    shared_intermediate_size: Annotated[int, Between(0, 1 << 24)]
    num_codebooks: Annotated[int, Between(1, 1024)]
    codebook_size: Width
    delay_pattern: Annotated[tuple[Annotated[int, Between(0, MAX_DELAY)], ...], Length(1, 1024)]
    selection: Selection = "top_p"
    top_p: Share = 0.7
    top_k: Annotated[int, Between(0, 2 * MAX_EXPERTS)] = 2
    weighting: Weighting = "probability"
    router_jitter_noise: Noise = 0.01
    input_jitter_noise: Noise = 0.0
    rope_theta: Annotated[float, Between(0, 1e30, above=True)] = 1e6
    mrope_sections: Annotated[tuple[Annotated[int, Between(0, 1 << 16)], ...], Length(0, 3)] = ()
    rms_norm_eps: Annotated[float, Between(0, 1, above=True)] = 1e-6
    qkv_bias: bool = True
    max_positions: Annotated[int, Between(1, 1 << 24)] = 4096
    aux_loss_weight: Weight = 0.025
    min_aux_loss_weight: Weight = 0.001
    aux_loss_decay_steps: Annotated[int, Between(1, 1 << 40)] = 10_000
    token_drop: bool = False
    drop_policy: DropPolicy = "probs"
    capacity_factor: Annotated[float, Between(0, 1e6, above=True)] = 6.0
    min_capacity: Annotated[int, Between(1, 1 << 40)] = 8

    def check_together(self) -> None:
        for name, count in (
            ("routed_intermediate_size", self.num_routed_experts),
            ("shared_intermediate_size", self.num_shared_experts),
        ):
            value = getattr(self, name)
            require(value >= min(count, 1), name, value, "at least 1 where it has experts")
        require(self.num_heads % self.num_kv_heads == 0, "num_heads", self.num_heads, "a multiple of num_kv_heads")
        require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "even (rotary embedding rotates pairs)")
        dynamic = self.num_dynamic_experts
        if self.selection == "top_k":
            require(1 <= self.top_k <= max(dynamic, 1), "top_k", self.top_k, f"in 1 … {max(dynamic, 1)}")
        sections = self.mrope_sections
        require(
            not sections or (len(sections) == 3 and sum(sections) == self.head_dim // 2),
            "mrope_sections",
            sections,
            f"empty or three counts adding up to {self.head_dim // 2}",
        )
        require(
            len(self.delay_pattern) == self.num_codebooks,
            "delay_pattern", self.delay_pattern, f"one delay of 0 or more for each of {self.num_codebooks} codebooks",
        )  # fmt: skip

    @property
    def queries_per_key(self) -> int:
        """Query heads that share a key head."""
        return self.num_heads // self.num_kv_heads

    @property
    def num_dynamic_experts(self) -> int:
        """Number of experts that the router can pick: routed and null."""
        return self.num_routed_experts + self.num_null_experts

    @property
    def num_router_rows(self) -> int:
        """Rows of the router's matrix: dynamic experts, and with `sparsemixer` the shared ones as well."""
        return self.num_dynamic_experts + (self.num_shared_experts if self.weighting == "sparsemixer" else 0)

    @property
    def num_graphs(self) -> int:
        """Number of trunks, routed experts and head: the graphs that every bundle of this model has."""
        return self.num_layers * (1 + self.num_routed_experts) + 1

    @property
    def codec_vocab_size(self) -> int:
        """Number of ids of a codebook's embedding and head: codes, EOS, PAD, BOS."""
        return self.codebook_size + 3

    @property
    def eos_id(self) -> int:
        return self.codebook_size

    @property
    def pad_id(self) -> int:
        return self.codebook_size + 1

    @property
    def bos_id(self) -> int:
        return self.codebook_size + 2


MAX_STEPS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(JsonRecord):
    """How the next frame is drawn. Defaults are the public model's for speech.

    `guidance_scale` 0 turns guidance off; guided = cond + scale * (cond - uncond).
    `temperature` 0 takes the largest logit. `eos_factor` multiplies the logit of EOS. `min_steps` and `max_steps` count
    decode steps, delay included.
    """

    guidance_scale: Annotated[float, Between(0, 1000)] = 1.0
    temperature: Annotated[float, Between(0, 1000)] = 1.0
    top_k: Annotated[int, Between(1, 1 << 40)] | None = 45
    top_p: Share = 1.0
    eos_factor: Annotated[float, Between(0, 1000, above=True)] = 1.0
    min_steps: Annotated[int, Between(0, MAX_STEPS)] = 100
    max_steps: Annotated[int, Between(1, MAX_STEPS)] = 1000

    def check_together(self) -> None:
        """Check the conditions between fields. Raises ConfigError."""
        usable = self.temperature == 0 or self.temperature >= 0.001
        require(usable, "temperature", self.temperature, "0, or at least 0.001")
        require(self.max_steps >= self.min_steps, "max_steps", self.max_steps, "at least min_steps and 1")
