"""The published UniMoE-Audio checkpoint's format: its config.json and tensor names, mapped to ours.

Names and constants are those of the format; nothing here depends on their use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.vision.tower import VisionConfig

# Published name and ours: # stands for a number, @ for a word. Both sides have them in the same order.
_NAMES: tuple[tuple[str, str], ...] = (
    ("language_model.embed_tokens.weight", "text_embedding.weight"),
    ("codec_embed_tokens.#.weight", "codec_embedding.#.weight"),
    ("language_model.layers.#.input_layernorm.weight", "layers.#.attention_norm.weight"),
    ("language_model.layers.#.self_attn.@.@", "layers.#.attention.@.@"),
    ("language_model.layers.#.post_attention_layernorm.weight", "layers.#.moe_norm.weight"),
    ("language_model.layers.#.mlp.gate.weight", "layers.#.moe.router.weight"),
    (
        "language_model.layers.#.mlp.dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts.#.@.weight",
        "layers.#.moe.experts.#.@.weight",
    ),
    ("language_model.layers.#.mlp.fixed_real_moe.#.@.weight", "layers.#.moe.shared.#.@.weight"),
    ("language_model.norm.weight", "final_norm.weight"),
    ("codec_head.weight", "codec_head.weight"),
    ("visual.patch_embed.proj.weight", "vision.patch_embed.weight"),
    ("visual.blocks.#.norm1.weight", "vision.blocks.#.attention_norm.weight"),
    ("visual.blocks.#.attn.qkv.@", "vision.blocks.#.attention.qkv_proj.@"),
    ("visual.blocks.#.attn.proj.@", "vision.blocks.#.attention.o_proj.@"),
    ("visual.blocks.#.norm2.weight", "vision.blocks.#.mlp_norm.weight"),
    ("visual.blocks.#.mlp.@.@", "vision.blocks.#.mlp.@.@"),
    ("visual.merger.ln_q.weight", "vision.merger.norm.weight"),
    ("visual.merger.mlp.0.@", "vision.merger.up_proj.@"),
    ("visual.merger.mlp.2.@", "vision.merger.down_proj.@"),
)
_PLACES = {"#": r"(\d+)", "@": r"(\w+)"}
# The text head is never used for audio.
_IGNORED = re.compile(r"lm_head\.weight")
# A published folder holds no sampling settings. These are the values that the published code passes for each task.
SAMPLING: Mapping[str, SamplingConfig] = {
    "speech": SamplingConfig(),
    "music": SamplingConfig(guidance_scale=10.0, eos_factor=0.6),
}


def is_public_config(config: Mapping[str, Any]) -> bool:
    """True for the config.json of a published UniMoE-Audio folder."""
    return "text_config" in config and "codec_channels" in config


@contextmanager
def _reading() -> Iterator[None]:
    """Turn a missing or malformed field into a one-line error; the error of a value out of range passes unchanged."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: it has no field {error}") from None
    except ConfigError:
        raise
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: {error}") from None


def model_config(config: Mapping[str, Any]) -> ModelConfig:
    """Our configuration from a published config.json. Raises CheckpointError naming a missing or malformed field,
    ConfigError if a value is out of range."""
    with _reading():
        text = config["text_config"]
        num_heads = int(text["num_attention_heads"])
        return ModelConfig(
            text_vocab_size=text["vocab_size"],
            hidden_size=text["hidden_size"],
            num_layers=text["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=text["num_key_value_heads"],
            head_dim=text.get("head_dim") or text["hidden_size"] // num_heads,
            num_routed_experts=text["mlp_dynamic_expert_num"],
            num_null_experts=text["mlp_dynamic_null_expert_num"],
            num_shared_experts=text["mlp_fixed_expert_num"],
            routed_intermediate_size=text["dynamic_intermediate_size"],
            shared_intermediate_size=text["shared_intermediate_size"],
            num_codebooks=config["codec_channels"],
            codebook_size=config["codec_eos_value"],
            delay_pattern=tuple(config["codec_delay_pattern"]),
            # A top-p of 0 means the fixed top-k in the published code.
            selection="top_p" if text["mlp_dynamic_top_p"] else "top_k",
            top_p=text["mlp_dynamic_top_p"] or 1.0,
            top_k=int(text["mlp_dynamic_top_k"]) or 1,
            weighting="sparsemixer",
            router_jitter_noise=text["router_jitter_noise"],
            input_jitter_noise=text["input_jitter_noise"],
            rope_theta=text["rope_theta"],
            mrope_sections=tuple(text["rope_scaling"]["mrope_section"]),
            rms_norm_eps=text["rms_norm_eps"],
            qkv_bias=True,
            max_positions=text["max_position_embeddings"],
            aux_loss_weight=text["l_aux_weight"],
            min_aux_loss_weight=text["min_l_aux_weight"],
            aux_loss_decay_steps=text["l_aux_weight_decay_steps"],
            token_drop=text["token_drop"],
            drop_policy=text["drop_policy"],
            capacity_factor=text["capacity_factor"],
            min_capacity=text["min_capacity"],
        )


def vision_config(config: Mapping[str, Any]) -> VisionConfig | None:
    """Configuration of the vision tower in a published config.json; None if it has none. Raises as `model_config`.

    A field that is left out has the default of the published configuration class, which does not write defaults.
    """
    vision = config.get("vision_config")
    if not vision:
        return None
    with _reading():
        if vision.get("hidden_act", "silu") != "silu":
            raise CheckpointError(f"a vision tower with the activation {vision['hidden_act']!r} is not supported")
        return VisionConfig(
            num_blocks=vision.get("depth", 32),
            hidden_size=vision["hidden_size"],
            intermediate_size=vision.get("intermediate_size", 3420),
            num_heads=vision.get("num_heads", 16),
            out_hidden_size=vision["out_hidden_size"],
            patch_size=vision.get("patch_size", 14),
            spatial_merge_size=vision.get("spatial_merge_size", 2),
            temporal_patch_size=vision.get("temporal_patch_size", 2),
            window_size=vision.get("window_size", 112),
            full_attention_blocks=tuple(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
            tokens_per_second=vision.get("tokens_per_second", 4),
            in_channels=vision.get("in_channels", 3),
            vision_start_id=config["vision_start_token_id"],
            vision_end_id=config["vision_end_token_id"],
            video_token_id=config["video_token_id"],
        )


def canonical_name(public_name: str) -> str | None:
    """Our name of a published tensor; None for a tensor that audio generation does not use.

    Raises CheckpointError for a name that the format does not have.
    """
    name = _renamed(public_name, _FROM_PUBLISHED)
    if name is not None or _IGNORED.fullmatch(public_name):
        return name
    raise CheckpointError(f"tensor {public_name!r} is not part of the published UniMoE-Audio format")


def published_name(name: str) -> str:
    """The published name of one of our tensors. Raises CheckpointError for a name that is not ours."""
    found = _renamed(name, _TO_PUBLISHED)
    if found is None:
        raise CheckpointError(f"the published UniMoE-Audio format has no tensor {name!r}")
    return found


def _rules(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile("".join(_PLACES.get(letter, re.escape(letter)) for letter in source)), re.sub("[#@]", "{}", target))
        for source, target in pairs
    )


_FROM_PUBLISHED = _rules(_NAMES)
_TO_PUBLISHED = _rules((ours, published) for published, ours in _NAMES)


def _renamed(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, target in rules:
        match = pattern.fullmatch(name)
        if match:
            return target.format(*match.groups())
    return None
