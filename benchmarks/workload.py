"""The measured model: random weights at real sizes, and a code that sets the number of picked experts.

A step's cost depends on the number of experts that its router picks, so the benchmark sets that number and leaves
everything else as in a real model: the router, Top-P, the null expert and the weights all run. `MAX_PICKED + 1`
channels of the hidden state serve as control channels. No layer writes to them; code n of codebook 0 switches channel
n on. From these channels the router reads which experts to favour: the first n routed experts equally, or the null
expert for n = 0. With n equal probabilities, n at most 8, Top-P at 0.9 picks all n.

C hidden · K codebooks · V codec vocabulary · T positions
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.generation import Prompt

MAX_PICKED = 8
ROWS = 2  # a guided pair

_CONTROL = 16.0  # value of an active control channel; other channels have a variance of about 1
_FAVOUR = 5.0  # router weight on a control channel: the favoured logits lie tens above the rest
_SPREAD = 0.02  # of the favoured logits, so that they differ as in a real model


def model_config(hidden: int, *, num_layers: int = 8) -> ModelConfig:
    """The compared sizes: 384 and 1024 from published measurements, 2048 from the published model, others scaled (for
    tests)."""
    routed, shared = {384: (512, 256), 1024: (1376, 688), 2048: (2752, 1376)}.get(hidden, (hidden, hidden // 2))
    head_dim = 128 if hidden == 2048 else 64
    return ModelConfig(
        text_vocab_size=256,
        hidden_size=hidden,
        num_layers=num_layers,
        num_heads=hidden // head_dim,
        num_kv_heads=2 if hidden % 128 == 0 else 1,
        head_dim=head_dim,
        num_routed_experts=MAX_PICKED,
        num_null_experts=1,
        num_shared_experts=2,
        routed_intermediate_size=routed,
        shared_intermediate_size=shared,
        num_codebooks=8,
        codebook_size=1024,
        delay_pattern=tuple(range(8)),
        top_p=0.9,
        weighting="probability",
    )


def write_checkpoint(folder: Path, config: ModelConfig, seed: int = 0, *, text_picks: bool = False) -> Path:
    """Write `random_tensors` as a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_tensors(config, seed, text_picks=text_picks), folder / "model.safetensors")
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(), "sampling": {}}
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def random_tensors(config: ModelConfig, seed: int = 0, *, text_picks: bool = False) -> dict[str, NDArray[np.float32]]:
    """Random weights, by the names of a checkpoint, whose routing follows the code of codebook 0.

    A prompt's tokens pick only the null expert; with `text_picks` text id i picks i modulo `MAX_PICKED + 1` experts.
    """
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith("norm.weight"):
            tensors[name] = np.ones(shape, np.float32)
        else:
            tensors[name] = random.standard_normal(shape, dtype=np.float32)
            tensors[name] *= _scale(name, shape, config)
    num_controls = MAX_PICKED + 1
    for name, tensor in tensors.items():
        if "embedding" in name:
            tensor[:, :num_controls] = 0
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[:num_controls] = 0
        elif name.endswith("router.weight"):
            tensor[:, :num_controls] = 0
            tensor[config.num_routed_experts, 0] = _FAVOUR
            for picked in range(1, num_controls):
                tensor[:picked, picked] = _FAVOUR
    for picked in range(num_controls):
        tensors["codec_embedding.0.weight"][picked, picked] = _CONTROL
    text_VC = tensors["text_embedding.weight"]
    text_VC[np.arange(len(text_VC)), np.arange(len(text_VC)) % num_controls if text_picks else 0] = _CONTROL
    return tensors


def _scale(name: str, shape: tuple[int, ...], config: ModelConfig) -> np.float32:
    if "codec_embedding" in name:
        return np.float32(config.num_codebooks**-0.5)
    if "text_embedding" in name:
        return np.float32(1.0)
    if name.endswith("router.weight"):
        return np.float32(_SPREAD * config.hidden_size**-0.5)
    residual = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
    return np.float32(residual * shape[-1] ** -0.5)


def prompt(config: ModelConfig, length: int, seed: int = 0) -> Prompt:
    """A guided pair of random text of that length."""
    ids = np.random.default_rng(seed).integers(0, config.text_vocab_size, (ROWS, length))
    return Prompt.from_rows(list(ids), paired=True)


def codes(config: ModelConfig, picked: int, random: np.random.Generator) -> NDArray[np.int64]:
    """codes_BK of a step in which every layer picks the first `picked` routed experts, in both rows."""
    codes_BK = random.integers(MAX_PICKED + 1, config.codebook_size, (ROWS, config.num_codebooks))
    codes_BK[:, 0] = picked
    return codes_BK


def bytes_touched(bundle: Bundle, picked: int, cached: int) -> dict[str, int]:
    """Bytes that a step must read, by part: each weight once, as the bundle stores it, and the existing cached keys
    and values."""
    config = bundle.model

    def weights(graph: str) -> int:
        return sum(entry.num_bytes for entry in bundle.weights(graph).entries.values())

    layers, kv = config.num_layers, config.num_kv_heads * config.head_dim
    return {
        "trunks": layers * weights("layers.0.trunk"),
        "experts": layers * picked * (weights("layers.0.expert.0") if picked else 0),
        "head": weights("head"),
        "embeddings": 4 * ROWS * config.num_codebooks * config.hidden_size,
        "cache": 4 * layers * ROWS * 2 * kv * cached,
    }
