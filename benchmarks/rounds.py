"""Timing of decode steps in interleaved rounds, in one process at one thread count.

decode_step.py runs it as `python -m benchmarks.rounds FOLDER HIDDEN THREADS ROUNDS PICKED…`; it prints JSON. Each
thread count has a process, because ONNX Runtime's pool can be set only once.

A round visits every number of picked experts, there every peer in random order, and the read kernels. A visit makes
one untimed step and then one timed step for each copy of the model, copy after copy, so that a weight is read again
only after `_SET_BYTES` of others. Weights thus come from memory, as in a model larger than the cache, while code stays
as warm as in a real decode loop. With one thread, times are the process's CPU time.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unimoe.checkpoint import load_model
from unimoe.generate import TorchLanguageModel
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.model.generation import LanguageModel
from unimoe_runtime.model.sampling import guide, mask_special_ids, sample
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import BackgroundLoad, settle

from .bandwidth import BUFFER_BYTES, ReadKernels, clock_for
from .single_graph import SingleGraph
from .tight_torch import TightTorch
from .workload import bytes_touched, codes, prompt

PEERS = ("ours", "int8", "single graph", "tight torch", "eager torch")
# Largest difference of a peer's logits from ours, relative to the largest logit.
_TOLERANCES = {peer: 0.2 if peer == "int8" else 1e-3 for peer in PEERS}
PROMPT_TOKENS = 192
CAPACITY = 256  # of the peers' caches
_STEPS_A_PROMPT = 48  # a cache holds 192 to 240 positions

_SET_BYTES = 140e6
_MOST_COPIES = 8  # of the int8 model: its smallest step then cycles through about 80 MB


class Peer:
    """Copies of one way to run the model, used in turn. A copy with a full cache is prefilled again."""

    def __init__(
        self, models: list[LanguageModel], bundle: Bundle, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._models, self._config, self._clock = models, bundle.model, clock
        self._prompt = prompt(bundle.model, PROMPT_TOKENS)
        self._steps = [_STEPS_A_PROMPT] * len(models)
        self._next = 0
        self.copies = len(models)

    @property
    def first(self) -> LanguageModel:
        return self._models[0]

    def rewind(self) -> None:
        """Let the next step use the first copy."""
        self._next = 0

    def prepare(self, steps: int) -> None:
        """Prefill, untimed, the copies whose caches `steps` more steps would fill."""
        for copy, model in enumerate(self._models):
            if self._steps[copy] + steps > _STEPS_A_PROMPT:
                model.prefill(self._prompt)
                self._steps[copy] = 0

    def step(self, picked: int, random: np.random.Generator) -> tuple[float, np.ndarray]:
        """Seconds and logits_BKV of one step of the next copy."""
        copy = self._next
        self._next = (copy + 1) % self.copies
        position_B = self._prompt.first_position_B + np.float32(self._steps[copy])
        self._steps[copy] += 1
        codes_BK = codes(self._config, picked, random)
        model = self._models[copy]
        start = self._clock()
        logits_BKV = model.step(codes_BK, position_B)
        return self._clock() - start, logits_BKV


def build_peers(folder: Path, threads: int | None) -> tuple[Bundle, dict[str, Peer]]:
    """All peers over FOLDER/checkpoint, FOLDER/bundle and FOLDER/int8."""
    bundle, int8 = open_bundle(folder / "bundle"), open_bundle(folder / "int8")

    def model(of: Bundle) -> BundleModel:
        backend = open_backend("onnxruntime", of, threads=threads)
        backend.load()
        return BundleModel(backend)

    models: dict[str, list[LanguageModel]] = {peer: [] for peer in PEERS}
    models["int8"] = [model(int8) for _ in range(min(_copies(int8), _MOST_COPIES))]
    for copy in range(_copies(bundle)):
        torch_model = load_model(folder / "checkpoint")
        models["ours"].append(model(bundle))
        models["single graph"].append(SingleGraph(bundle, f"single_{copy}", CAPACITY))
        models["tight torch"].append(TightTorch(torch_model, CAPACITY))
        models["eager torch"].append(TorchLanguageModel(torch_model))
    clock = clock_for(threads or 0)
    return bundle, {peer: Peer(copies_of, bundle, clock) for peer, copies_of in models.items()}


def _copies(bundle: Bundle) -> int:
    """The number of copies that fill `_SET_BYTES` when a step reads the least: with no picked expert."""
    return math.ceil(_SET_BYTES / sum(bytes_touched(bundle, 0, PROMPT_TOKENS).values()))


def measure(folder: Path, hidden: int, threads: int, rounds: int, picked_counts: list[int]) -> dict[str, Any]:
    """Seconds of every timed step, by peer and number of picked experts, and of every read kernel."""
    torch.set_num_threads(threads)
    bundle, peers = build_peers(folder, threads)
    agreement = check_agreement(bundle, peers, picked_counts)
    kernels = ReadKernels(folder / "read", clock_for(threads))
    random = np.random.default_rng(0)
    seconds: dict[str, dict[int, list[list[float]]]] = {peer: defaultdict(list) for peer in PEERS}
    reads: dict[str, list[float]] = defaultdict(list)
    sampling: list[float] = []
    for _ in range(rounds):
        for picked in picked_counts:
            for name in random.permutation(PEERS):
                peer = peers[name]
                peer.prepare(peer.copies + 1)
                settle()
                peer.step(picked, random)
                steps = [peer.step(picked, random) for _ in range(peer.copies)]
                seconds[name][picked].append([elapsed for elapsed, _ in steps])
                if name == "ours":
                    sampling.append(_sampling_seconds(bundle, steps[-1][1], random))
            for kernel in kernels.names:
                settle()
                reads[kernel].append(kernels.seconds(kernel))
    cached = PROMPT_TOKENS + _STEPS_A_PROMPT // 2
    return {
        "hidden": hidden,
        "threads": threads,
        "copies": peers["ours"].copies,
        "parameters": bundle.model.to_dict(),
        "bytes": {picked: bytes_touched(bundle, picked, cached) for picked in picked_counts},
        "int8_bytes": {picked: bytes_touched(open_bundle(folder / "int8"), picked, cached) for picked in picked_counts},
        "seconds": seconds,
        "read_bytes_per_second": {name: [BUFFER_BYTES / elapsed for elapsed in reads[name]] for name in reads},
        "sampling_seconds": sampling,
        "agreement": agreement,
    }


def check_agreement(bundle: Bundle, peers: dict[str, Peer], picked_counts: list[int]) -> dict[str, float]:
    """Largest difference of each peer's logits from ours, relative to the largest logit, over one step a count.

    Raises ValueError where a peer's results differ, or where we do not launch exactly picked × layers experts.
    """
    ours = [model for name in ("ours", "int8") if isinstance(model := peers[name].first, BundleModel)]
    worst = dict.fromkeys(PEERS, 0.0)
    for peer in peers.values():
        peer.prepare(_STEPS_A_PROMPT)
    for picked in picked_counts:
        before = [model.statistics.launched for model in ours]
        logits = {}
        for name, peer in peers.items():
            peer.rewind()
            logits[name] = peer.step(picked, np.random.default_rng(picked))[1].copy()
        for model, count in zip(ours, before, strict=True):
            launched = model.statistics.launched - count
            if launched != picked * bundle.model.num_layers:
                raise ValueError(
                    f"{launched} experts launched at {picked} picked a layer, {bundle.model.num_layers} layers"
                )
        for name in PEERS:
            difference = np.abs(logits[name] - logits["ours"]).max() / np.abs(logits["ours"]).max()
            worst[name] = max(worst[name], float(difference))
    for name, difference in worst.items():
        if not difference < _TOLERANCES[name]:
            raise ValueError(f"{name} computes other logits than ours: relative difference {difference:.1e}")
    return worst


def _sampling_seconds(bundle: Bundle, logits_BKV: np.ndarray, random: np.random.Generator) -> float:
    config, sampling = bundle.model, SamplingConfig()
    start = time.perf_counter()
    logits_UKV = guide(logits_BKV, True, sampling)
    mask_special_ids(logits_UKV, config, sampling, allow_eos=True)
    sample(logits_UKV, sampling, config.eos_id, random)
    return time.perf_counter() - start


def main() -> None:
    folder, hidden, threads, rounds, *picked = sys.argv[1:]
    background_cpu_cores = BackgroundLoad()
    result = measure(Path(folder), int(hidden), int(threads), int(rounds), [int(count) for count in picked])
    result["cores_of_others"] = background_cpu_cores.cores()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
