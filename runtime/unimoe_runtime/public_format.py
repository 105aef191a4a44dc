"""The published UniMoE-Audio checkpoint's format: its config.json and tensor names, mapped to ours.

Names and constants are the format and taken exactly; nothing here knows how they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .config import ModelConfig, SamplingConfig
from .errors import CheckpointError, ConfigError
from .vision import VisionConfig

_BLOCK = r"visual\.blocks\.(\d+)\."
_LAYER = r"language_model\.layers\.(\d+)\."
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"language_model\.embed_tokens\.weight", "text_embedding.weight"),
        (r"codec_embed_tokens\.(\d+)\.weight", r"codec_embedding.\1.weight"),
        (_LAYER + r"input_layernorm\.weight", r"layers.\1.attention_norm.weight"),
        (_LAYER + r"self_attn\.(q_proj|k_proj|v_proj|o_proj)\.(weight|bias)", r"layers.\1.attention.\2.\3"),
        (_LAYER + r"post_attention_layernorm\.weight", r"layers.\1.moe_norm.weight"),
        (_LAYER + r"mlp\.gate\.weight", r"layers.\1.moe.router.weight"),
        (
            _LAYER + r"mlp\.dynamic_real_moe\.deepspeed_moe\.experts\.deepspeed_experts\.(\d+)\."
            r"(gate_proj|up_proj|down_proj)\.weight",
            r"layers.\1.moe.experts.\2.\3.weight",
        ),
        (
            _LAYER + r"mlp\.fixed_real_moe\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight",
            r"layers.\1.moe.shared.\2.\3.weight",
        ),
        (r"language_model\.norm\.weight", "final_norm.weight"),
        (r"codec_head\.weight", "codec_head.weight"),
        (r"visual\.patch_embed\.proj\.weight", "vision.patch_embed.weight"),
        (_BLOCK + r"norm1\.weight", r"vision.blocks.\1.attention_norm.weight"),
        (_BLOCK + r"attn\.qkv\.(weight|bias)", r"vision.blocks.\1.attention.qkv_proj.\2"),
        (_BLOCK + r"attn\.proj\.(weight|bias)", r"vision.blocks.\1.attention.o_proj.\2"),
        (_BLOCK + r"norm2\.weight", r"vision.blocks.\1.mlp_norm.weight"),
        (_BLOCK + r"mlp\.(gate_proj|up_proj|down_proj)\.(weight|bias)", r"vision.blocks.\1.mlp.\2.\3"),
        (r"visual\.merger\.ln_q\.weight", "vision.merger.norm.weight"),
        (r"visual\.merger\.mlp\.0\.(weight|bias)", r"vision.merger.up_proj.\1"),
        (r"visual\.merger\.mlp\.2\.(weight|bias)", r"vision.merger.down_proj.\1"),
    )
)
# The text head is never used for audio.
_IGNORED = re.compile(r"lm_head\.weight")
# A published folder holds no sampling settings: these are what its code passes for each task.
SAMPLING: Mapping[str, SamplingConfig] = {
    "speech": SamplingConfig(),
    "music": SamplingConfig(guidance_scale=10.0, eos_factor=0.6),
}


def is_public_config(config: Mapping[str, Any]) -> bool:
    """True for the config.json of a published UniMoE-Audio folder."""
    return "text_config" in config and "codec_channels" in config


def model_config(config: Mapping[str, Any]) -> ModelConfig:
    """Our configuration of a published config.json. Raises CheckpointError naming a missing or malformed field,
    ConfigError where a value is out of range."""
    try:
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
        )
    except KeyError as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: it has no field {error}") from None
    except ConfigError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: {error}") from None


def vision_config(config: Mapping[str, Any]) -> VisionConfig | None:
    """Configuration of the vision tower in a published config.json; None where it has none. Raises as `model_config`.

    A field that is left out has the value of the published configuration class, as it writes no defaults.
    """
    vision = config.get("vision_config")
    if not vision:
        return None
    try:
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
    except KeyError as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: it has no field {error}") from None
    except ConfigError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"not a UniMoE-Audio configuration: {error}") from None


def canonical_name(public_name: str) -> str | None:
    """Our name of a published tensor; None for one that audio generation does not use.

    Raises CheckpointError for a name that the format does not have.
    """
    for pattern, name in _RULES:
        if pattern.fullmatch(public_name):
            return pattern.sub(name, public_name)
    if _IGNORED.fullmatch(public_name):
        return None
    raise CheckpointError(f"tensor {public_name!r} is not part of the published UniMoE-Audio format")
