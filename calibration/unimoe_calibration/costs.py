"""What a graph costs in each number format: bytes in the bundle, and milliseconds of a decode step.

N tokens
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import Bundle, expert_name, language_model_graphs
from unimoe_runtime.hardware.targets import Target
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.sample_requests import standard_requests

from .mixing import MixedBackend

_ROUNDS = 15

Costs = Mapping[tuple[str, str], float]
"""By (graph, scheme)."""


def graph_bytes(schemes: Mapping[str, Bundle]) -> Costs:
    """Bytes of each graph and its weights."""
    costs = {}
    for scheme, bundle in schemes.items():
        for graph in language_model_graphs(bundle.model):
            info = bundle.graphs[graph]
            costs[graph, scheme] = float(bundle.files[info.file].bytes + bundle.files[info.weights].bytes)
    return costs


def step_ms(backend: MixedBackend, target: Target, launched_LE: NDArray[np.float64]) -> Costs:
    """Milliseconds that each graph adds to a decode step: experts by the share of steps in which they run.

    For a target with a known bandwidth this is an estimate: bytes ÷ bandwidth. Otherwise each kind of graph runs on
    this machine, the schemes alternate, and the median counts. Both leave out the host's own work.
    """
    schemes = {name: each.bundle for name, each in backend.schemes.items()}
    if target.bandwidth_gb_per_s is not None:
        once = {key: size / target.bandwidth_gb_per_s / 1e6 for key, size in graph_bytes(schemes).items()}
    else:
        once = _timed_ms(backend)
    return {(graph, scheme): ms * _share(graph, launched_LE) for (graph, scheme), ms in once.items()}


def _share(graph: str, launched_LE: NDArray[np.float64]) -> float:
    match graph.split("."):
        case ["layers", layer, "expert", expert]:
            return float(launched_LE[int(layer), int(expert)])
    return 1.0


def _timed_ms(backend: MixedBackend) -> dict[tuple[str, str], float]:
    """Median time of each kind of graph (trunk, expert, head): all graphs of a kind cost the same."""
    inputs = _step_inputs(backend)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(_ROUNDS):
        for graph, given in inputs.items():
            for scheme, each in backend.schemes.items():
                session = each.session(graph)
                started = time.perf_counter()
                session.run(None, given)
                seconds.setdefault((_kind(graph), scheme), []).append(time.perf_counter() - started)
    return {
        (graph, scheme): 1e3 * float(np.median(seconds[_kind(graph), scheme]))
        for graph in inputs
        for scheme in backend.schemes
    }


def _kind(graph: str) -> str:
    return graph.split(".")[2] if graph.startswith("layers.") else graph


class _Step(WrappedBackend):
    """Notes each graph's last inputs."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, by_graph=True)
        self.given: dict[str, dict[str, Array]] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.given[graph] = dict(inputs)
        return super().run(graph, inputs)


def _step_inputs(backend: MixedBackend) -> dict[str, dict[str, Array]]:
    """Each graph's inputs in a decode step of one utterance; zeros for an expert that was not picked."""
    recorder = _Step(backend)
    config = backend.bundle.model
    prompt = standard_requests(backend.bundle)[0].prompt
    model = BundleModel(recorder)
    model.prefill(prompt)
    recorder.given.clear()
    model.step(np.zeros((prompt.num_rows, config.num_codebooks), np.int64), prompt.first_position_B)
    given: dict[str, dict[str, Array]] = {}
    for graph in language_model_graphs(config):
        if graph in recorder.given:
            given[graph] = recorder.given[graph]
    tokens_NC = np.zeros((prompt.num_rows, config.hidden_size), np.float32)
    weight_N1 = np.ones((prompt.num_rows, 1), np.float32)
    for layer in range(config.num_layers):
        for expert in range(config.num_routed_experts):
            idle = {"accumulator_NC": tokens_NC, "expert_input_NC": tokens_NC, "weight_N1": weight_N1}
            given.setdefault(expert_name(layer, expert), idle)
    return given
