"""Model configurations: the shared dataclasses, the presets and the domains."""

from __future__ import annotations

from typing import Any

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import ConfigError

__all__ = ["DOMAINS", "PRESETS", "ModelConfig", "SamplingConfig", "preset"]

DOMAINS = ("speech", "music")
"""What a model makes: the domains of clips, specialists and losses."""

_TINY: dict[str, Any] = dict(
    text_vocab_size=40,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    num_routed_experts=4,
    num_null_experts=1,
    num_shared_experts=1,
    routed_intermediate_size=24,
    shared_intermediate_size=24,
    num_codebooks=2,
    codebook_size=16,
    delay_pattern=(0, 1),
    rope_theta=1000.0,
    max_positions=512,
)
# Speaks and plays after minutes of training on a CPU: 4.9 million parameters.
_DEMO: dict[str, Any] = dict(
    text_vocab_size=128,
    hidden_size=192,
    num_layers=4,
    num_heads=6,
    num_kv_heads=3,
    head_dim=32,
    num_routed_experts=8,
    num_null_experts=1,
    num_shared_experts=1,
    routed_intermediate_size=192,
    shared_intermediate_size=192,
    num_codebooks=4,
    codebook_size=256,
    delay_pattern=(0, 1, 2, 3),
    top_p=0.7,
    weighting="probability",
    rope_theta=1000.0,
    max_positions=2048,
    aux_loss_weight=0.01,
)
# The published UniMoE-Audio: 6.18 billion parameters without vision and the unused text head.
_PUBLIC: dict[str, Any] = dict(
    text_vocab_size=151_676,
    hidden_size=2048,
    num_layers=36,
    num_heads=16,
    num_kv_heads=2,
    head_dim=128,
    num_routed_experts=8,
    num_null_experts=1,
    num_shared_experts=2,
    routed_intermediate_size=2752,
    shared_intermediate_size=1376,
    num_codebooks=12,
    codebook_size=1024,
    delay_pattern=(0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18),
    top_p=0.7,
    weighting="sparsemixer",
    router_jitter_noise=0.01,
    input_jitter_noise=0.01,
    rope_theta=1e6,
    mrope_sections=(16, 24, 24),
    max_positions=32_768,
)
PRESETS = {"tiny": _TINY, "demo": _DEMO, "public": _PUBLIC}


def preset(name: str, **overrides: Any) -> ModelConfig:
    """A named configuration with some fields replaced. Raises ConfigError for unknown names and values out of range."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; known: {', '.join(PRESETS)}")
    return ModelConfig.from_dict({**PRESETS[name], **overrides})
