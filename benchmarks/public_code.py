"""A decode step beside the published PyTorch code, over the same folder of weights.

    python -m benchmarks.public_code --public DIR [--hidden 384 1024] [--picked 0 2 8] [--threads N] [--rounds N]
                                     [--markdown FILE]

DIR is the folder UniMoE-Audio of the published code, which has utils/UniMoE_Audio_model.py. The packages that the code
imports (transformers, DeepSpeed and others) must be installed. The benchmark writes random weights in the published
format, exports that folder, and lets the published code load it. It compares the logits, and then times all in turns.
With one thread, times are the process's CPU time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import save_file

from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.sessions import use_global_pool
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.checkpoint.published import model_config, published_name
from unimoe_runtime.model.generation import LanguageModel, Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import describe_machine

from .bandwidth import clock_for
from .markdown import machine_line
from .published_folder import published_config
from .quantized import write_int8
from .rounds import Peer
from .turns import markdown, measure
from .workload import model_config as measured_config
from .workload import random_tensors

_MODULE = "utils.UniMoE_Audio_model"
_CLASS = "UniAudioRVQQwen2_5VLMoEForConditionalGeneration"
_FILE = Path("utils/UniMoE_Audio_model.py")
# Largest difference of the logits from ours, relative to the largest logit.
_TOLERANCES = {"public code": 1e-3, "int8": 0.2}


class PublicCode:
    """`generation.LanguageModel` over the published model class, called as its own generation calls it."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self._cache: Any = None
        self._mask_BS = torch.zeros(0, 0, dtype=torch.int64)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> None:
        self._cache = None
        self._mask_BS = torch.as_tensor(prompt.mask_BT, dtype=torch.int64)
        embedded_BTC = self._model.language_model.embed_tokens(torch.as_tensor(prompt.text_ids_BT))
        self._advance(embedded_BTC, prompt.positions)

    @torch.inference_mode()
    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        self._mask_BS = torch.cat([self._mask_BS, self._mask_BS.new_ones(len(codes_BK), 1)], dim=1)
        embedded_B1C = self._model.codec_embedding(torch.as_tensor(codes_BK)[:, None])
        hidden_BC = self._advance(embedded_B1C, position_B[:, None])[:, -1]
        logits_BKV: NDArray[np.float32] = self._model.codec_head(hidden_BC).float().numpy()
        return logits_BKV.reshape(*codes_BK.shape, -1)

    def _advance(self, embedded_BTC: torch.Tensor, positions_BT: NDArray[np.float32]) -> torch.Tensor:
        """The hidden states after the final norm."""
        end = self._mask_BS.shape[1]
        output = self._model.language_model(
            input_ids=None,
            inputs_embeds=embedded_BTC,
            attention_mask=self._mask_BS,
            position_ids=torch.as_tensor(positions_BT).long(),
            past_key_values=self._cache,
            use_cache=True,
            output_attentions=False,
            output_hidden_states=False,
            return_dict=True,
            cache_position=torch.arange(end - embedded_BTC.shape[1], end),
        )
        self._cache = output.past_key_values
        hidden_BTC: torch.Tensor = output.last_hidden_state
        return hidden_BTC


def public_class(folder: Path | None) -> Any:
    """The published model class. Raises SystemExit, one line, where the folder or a package it needs is missing."""
    if folder is None or not (folder / _FILE).is_file():
        where = "no folder is given" if folder is None else f"{folder} has no {_FILE}"
        raise SystemExit(
            f"{where}: give --public DIR, the folder UniMoE-Audio of the published code, which has {_FILE}"
        )
    sys.path.insert(0, str(folder.resolve()))
    try:
        return getattr(importlib.import_module(_MODULE), _CLASS)
    except ImportError as error:
        raise SystemExit(f"{folder / _FILE} cannot be imported ({error}): install the packages that it needs") from None
    except AttributeError:
        raise SystemExit(f"{folder / _FILE} has no class {_CLASS}: give the published code's folder") from None


def write_weights(folder: Path, hidden: int, *, num_layers: int = 8) -> None:
    """A folder in the published format: the measured size, random weights, routing that follows codebook 0."""
    size = measured_config(hidden, num_layers=num_layers)
    half = size.head_dim // 2
    sections = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
    config = published_config(
        num_layers=num_layers,
        num_vision_blocks=1,
        vocab_size=size.text_vocab_size,
        hidden_size=hidden,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_kv_heads,
        intermediate_size=size.routed_intermediate_size,
        dynamic_intermediate_size=size.routed_intermediate_size,
        shared_intermediate_size=size.shared_intermediate_size,
        mlp_dynamic_top_p=size.top_p,
        ignore_differentiable_router=True,
        rope_scaling={"mrope_section": sections, "rope_type": "default", "type": "default"},
    )
    # The published class has a vision tower. Here it is small, has no weights in the folder, and never runs.
    config["vision_config"].update(hidden_size=64, intermediate_size=64, num_heads=2)
    tensors = {published_name(name): tensor for name, tensor in random_tensors(model_config(config)).items()}
    tensors["lm_head.weight"] = np.zeros((size.text_vocab_size, hidden), np.float32)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def build(folder: Path, model_class: Any, threads: int | None) -> dict[str, Peer]:
    """The peers over FOLDER/weights, which this exports."""
    if threads:
        torch.set_num_threads(threads)
    weights, bundle_dir = folder / "weights", folder / "bundle"
    export_bundle(weights, bundle_dir)
    write_int8(bundle_dir, folder / "int8")
    models: dict[str, LanguageModel] = {}
    for name, path in (("ours", bundle_dir), ("int8", folder / "int8")):
        backend = open_backend("onnxruntime", open_bundle(path), threads=threads)
        backend.load()
        models[name] = BundleModel(backend)
    models["public code"] = PublicCode(model_class.from_pretrained(str(weights), torch_dtype=torch.float32))
    bundle = open_bundle(bundle_dir)
    return {name: Peer([model], bundle, clock_for(threads or 0)) for name, model in models.items()}


def check_agreement(peers: dict[str, Peer], picked_counts: list[int]) -> dict[str, float]:
    """Largest difference of each peer's logits from ours, relative to the largest logit, over one step a count.

    Raises SystemExit where it is too large.
    """
    worst = dict.fromkeys(_TOLERANCES, 0.0)
    for peer in peers.values():
        peer.prepare(len(picked_counts))
    for picked in picked_counts:
        logits = {name: peer.step(picked, np.random.default_rng(picked))[1].copy() for name, peer in peers.items()}
        largest = np.abs(logits["ours"]).max()
        for name in worst:
            worst[name] = max(worst[name], float(np.abs(logits[name] - logits["ours"]).max() / largest))
    for name, difference in worst.items():
        if not difference < _TOLERANCES[name]:
            raise SystemExit(f"{name} computes other logits than ours: relative difference {difference:.1e}")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public", type=Path, metavar="DIR", help="the folder UniMoE-Audio of the published code")
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--picked", type=int, nargs="+", default=[0, 2, 8], choices=range(9))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    arguments = parser.parse_args()
    model_class = public_class(arguments.public)
    use_global_pool(arguments.threads)  # before the exporter's checks set it
    text = f"{machine_line(describe_machine())}, torch {torch.__version__}; {arguments.threads} thread(s)\n\n"
    for hidden in arguments.hidden:
        with tempfile.TemporaryDirectory(prefix="unimoe-benchmark-") as temporary:
            write_weights(Path(temporary) / "weights", hidden)
            peers = build(Path(temporary), model_class, arguments.threads)
            differences = check_agreement(peers, arguments.picked)
            text += markdown(hidden, measure(peers, arguments.picked, arguments.rounds))
        told = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
        text += f"\nLargest difference of the logits from ours, relative to the largest logit: {told}.\n\n"
    Console(soft_wrap=True).print(text, highlight=False, markup=False)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
