"""Configuration of the model and of sampling: the one definition that training, export and runtime share.

Frozen, keyword-only, validated on construction, and free of any framework, so that a bundle's manifest and a
checkpoint's config.json hold exactly these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from unimoe_runtime.errors import ConfigError

Weighting = Literal["probability", "sparsemixer"]
Selection = Literal["top_p", "top_k"]
DropPolicy = Literal["probs", "position"]


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{field} is {value!r}; it must be {allowed}")


class JsonRecord:
    """Reading and writing of a flat dataclass as JSON: unknown and missing fields are named."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} does not know the field {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()  # type: ignore[call-overload]
        }


@dataclass(frozen=True, kw_only=True)
class ModelConfig(JsonRecord):
    """Shape and routing of one UniMoE-Audio model.

    Router rows come in the order routed, null, shared; shared rows exist only with the `sparsemixer`
    weighting, where shared experts take part in the last softmax (`num_router_rows`).
    Codec ids of one codebook: 0 … codebook_size - 1 are codes, then EOS, PAD, BOS.
    With `token_drop`, for training, an expert takes at most capacity_factor times its even share of the tokens
    (and no fewer than min_capacity): those of the largest logits ("probs") or the first ones ("position").
    """

    text_vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_routed_experts: int
    num_null_experts: int
    num_shared_experts: int
    routed_intermediate_size: int
    shared_intermediate_size: int
    num_codebooks: int
    codebook_size: int
    delay_pattern: tuple[int, ...]
    selection: Selection = "top_p"
    top_p: float = 0.7
    top_k: int = 2
    weighting: Weighting = "probability"
    router_jitter_noise: float = 0.01
    input_jitter_noise: float = 0.0
    rope_theta: float = 1e6
    mrope_sections: tuple[int, ...] = ()
    rms_norm_eps: float = 1e-6
    qkv_bias: bool = True
    max_positions: int = 4096
    aux_loss_weight: float = 0.025
    min_aux_loss_weight: float = 0.001
    aux_loss_decay_steps: int = 10_000
    token_drop: bool = False
    drop_policy: DropPolicy = "probs"
    capacity_factor: float = 6.0
    min_capacity: int = 8

    def __post_init__(self) -> None:
        for name in (
            "text_vocab_size hidden_size num_layers num_heads num_kv_heads head_dim num_codebooks "
            "codebook_size max_positions aux_loss_decay_steps min_capacity"
        ).split():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, name, value, "an integer of at least 1")
        for name in "num_routed_experts num_null_experts num_shared_experts".split():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 0, name, value, "an integer of at least 0")
        for name, count in (
            ("routed_intermediate_size", self.num_routed_experts),
            ("shared_intermediate_size", self.num_shared_experts),
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= min(count, 1),
                name,
                value,
                "at least 1 where it has experts",
            )
        require(self.num_heads % self.num_kv_heads == 0, "num_heads", self.num_heads, "a multiple of num_kv_heads")
        require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "even (rotary embedding turns pairs)")
        require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "in (0, 1]")
        dynamic = self.num_dynamic_experts
        if self.selection == "top_k":
            require(1 <= self.top_k <= max(dynamic, 1), "top_k", self.top_k, f"in 1 … {max(dynamic, 1)}")
        require(self.selection in ("top_p", "top_k"), "selection", self.selection, "'top_p' or 'top_k'")
        require(
            self.weighting in ("probability", "sparsemixer"),
            "weighting",
            self.weighting,
            "'probability' or 'sparsemixer'",
        )
        require(self.drop_policy in ("probs", "position"), "drop_policy", self.drop_policy, "'probs' or 'position'")
        require(self.capacity_factor > 0.0, "capacity_factor", self.capacity_factor, "above 0")
        sections = self.mrope_sections
        require(
            not sections or (len(sections) == 3 and min(sections) >= 0 and sum(sections) == self.head_dim // 2),
            "mrope_sections",
            sections,
            f"empty or three counts adding up to {self.head_dim // 2}",
        )
        require(
            len(self.delay_pattern) == self.num_codebooks
            and all(isinstance(delay, int) and delay >= 0 for delay in self.delay_pattern),
            "delay_pattern", self.delay_pattern, f"one delay of 0 or more for each of {self.num_codebooks} codebooks",
        )  # fmt: skip
        for name in ("router_jitter_noise", "input_jitter_noise"):
            require(0.0 <= getattr(self, name) < 1.0, name, getattr(self, name), "in [0, 1)")
        for name in ("rope_theta", "rms_norm_eps"):
            require(getattr(self, name) > 0.0, name, getattr(self, name), "above 0")
        for name in ("aux_loss_weight", "min_aux_loss_weight"):
            require(getattr(self, name) >= 0.0, name, getattr(self, name), "at least 0")

    @property
    def num_dynamic_experts(self) -> int:
        """Experts that the selection chooses from: routed and null."""
        return self.num_routed_experts + self.num_null_experts

    @property
    def num_router_rows(self) -> int:
        return self.num_dynamic_experts + (self.num_shared_experts if self.weighting == "sparsemixer" else 0)

    @property
    def codec_vocab_size(self) -> int:
        """Ids a codebook's embedding and head know: codes, EOS, PAD, BOS."""
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


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(JsonRecord):
    """How the next frame is drawn. Defaults are the public model's for speech.

    `guidance_scale` 0 turns guidance off; guided = cond + scale * (cond - uncond).
    `temperature` 0 takes the largest logit. `min_steps` and `max_steps` count decode steps, delay included.
    """

    guidance_scale: float = 1.0
    temperature: float = 1.0
    top_k: int | None = 45
    top_p: float = 1.0
    eos_factor: float = 1.0
    min_steps: int = 100
    max_steps: int = 1000

    def __post_init__(self) -> None:
        require(self.guidance_scale >= 0.0, "guidance_scale", self.guidance_scale, "at least 0")
        require(self.temperature >= 0.0, "temperature", self.temperature, "at least 0")
        require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "None or at least 1")
        require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "in (0, 1]")
        require(self.eos_factor > 0.0, "eos_factor", self.eos_factor, "above 0")
        require(self.min_steps >= 0, "min_steps", self.min_steps, "at least 0")
        require(self.max_steps >= max(1, self.min_steps), "max_steps", self.max_steps, "at least min_steps and 1")
