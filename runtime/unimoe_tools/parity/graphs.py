"""Comparing two ways to run one model: graph by graph, then end to end.

N tokens · E dynamic experts · R routed experts · K codebooks · V codec vocabulary · B rows · T positions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.engine_verification import Agreement
from unimoe_runtime.bundle.reader import expert_name
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.model.generation import LanguageModel, Prompt, generate
from unimoe_runtime.synthesis.language_model import BundleModel, Observer
from unimoe_runtime.vision.tower import BundleVision
from unimoe_runtime.vision.video import Video
from unimoe_tools.parity.agreement import mean, routing_agreement, token_agreement

# Largest allowed error between two computations, by the precision of the products: absolute, and a tenth of it
# relative to the largest value. float32 sums in another order differ by 1e-6; rounding a weight changes its product by
# a relative 2^-11 (float16) or 2^-8 (bfloat16). Measured relative to the largest value, on random models: experts
# 2.6e-4 and 2.4e-3, vision tower 8e-4 and 7e-3. Quantized products round their inputs, and a value between two codes
# may become either: the demo's int8 experts differ by 3e-3 between integer and float products of one graph.
TOLERANCE: Mapping[str, float] = {
    "float32": 1e-4, "float16": 5e-3, "bfloat16": 5e-2, "int8": 2e-2, "int8-weights": 2e-2, "int4-weights": 2e-2,
    "fp8": 5e-2,
}  # fmt: skip
# A larger difference of a token's weights is a different decision: a pick, or the sharing between near ties.
_ALIKE = 0.01

Call = tuple[dict[str, Array], dict[str, Array]]
"""Inputs and outputs of a graph, by name."""
ModelFactory = Callable[[Observer], LanguageModel]
"""Makes a model that reports each layer's routing to the observer."""


@dataclass(frozen=True, kw_only=True)
class GraphComparison:
    """The largest absolute error of a graph's worst output, and the largest absolute value of the same output."""

    graph: str
    max_abs_error: float
    max_abs_value: float

    @property
    def relative(self) -> float:
        return self.max_abs_error / self.max_abs_value if self.max_abs_value else self.max_abs_error


def tolerance_of(precision: str) -> float:
    """The tolerance of a graph's precision; for "float32+int8", where its products differ, the largest one."""
    return max(TOLERANCE[part] for part in precision.split("+"))


def allowed_error(value: float, tolerance: float) -> float:
    """The largest allowed error for an output with this largest value."""
    return tolerance + 0.1 * tolerance * value


@dataclass
class _RoutingLog:
    """Collects which experts were picked, in the order of the calls."""

    picks: list[NDArray[np.bool_]] = field(default_factory=list)

    def __call__(self, layer: int, router_logits_NR: NDArray[np.float32], weights_NE: NDArray[np.float32]) -> None:
        self.picks.append(weights_NE > 0)


class _Recorder(WrappedBackend):
    """Records the inputs and outputs of every graph's first call."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, by_graph=True)
        self.calls: dict[str, Call] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = super().run(graph, inputs)
        self.calls.setdefault(graph, (dict(inputs), outputs))
        return outputs


def record_calls(reference: Backend, prompt: Prompt) -> dict[str, Call]:
    """Every graph's inputs and outputs while `reference` reads a prompt and decodes codes.

    The whole pass is read, including padded positions. An expert without a token from the prompt runs on its layer's
    tokens with weight 1. The codec's decoder runs on seeded codes, unless the reference cannot run it; its encoder is
    left out, because a frame between two codes may legitimately get either. The vision tower reads seeded frames.
    """
    recorder = _Recorder(reference)
    model = BundleModel(recorder, observer=lambda *_: None)  # with an observer a prompt is read in one pass
    model.prefill(prompt)
    model.logits(np.flatnonzero(prompt.mask_BT.reshape(-1)))
    _run_idle_experts(recorder)
    _run_decoder(recorder)
    _run_vision(recorder)
    return recorder.calls


def compare_graphs(candidate: Backend, reference: Backend, prompt: Prompt) -> list[GraphComparison]:
    """Run every graph of `candidate` on the inputs of `record_calls`, and compare with the reference's outputs."""
    return [
        compare_outputs(graph, candidate.bundle.graphs[graph].precision, candidate.run(graph, inputs), expected)
        for graph, (inputs, expected) in record_calls(reference, prompt).items()
    ]


def compare_outputs(
    graph: str, precision: str, found: Mapping[str, Array], expected: Mapping[str, Array]
) -> GraphComparison:
    """Compare one graph's outputs with the expected ones; a non-finite output has an infinite error.

    The worst output is the one whose error is largest beside what its values allow: a counter's large values excuse no
    error of the audio. Integers have no rounding: an integer output that differs has an infinite error.
    In fewer than 32 bits a token near the Top-P threshold, or near a tie, may legitimately route differently; a trunk's
    error leaves it out.
    """
    if precision != "float32" and "weights_NE" in expected:
        found, expected = _alike_routed(found, expected)
    outputs = [_compared(found[name], array) for name, array in expected.items()]
    error, value = max(outputs, key=lambda output: (output[0] / allowed_error(output[1], 1.0), output[1]))
    return GraphComparison(graph=graph, max_abs_error=error, max_abs_value=value)


def _compared(found: Array, expected: Array) -> tuple[float, float]:
    """The largest error of an output, and the largest value that its rounding depends on: none of an integer's."""
    if np.issubdtype(expected.dtype, np.integer):
        return (0.0 if np.array_equal(found, expected) else np.inf), 0.0
    difference = np.abs(found - expected).max(initial=0.0)
    return float(difference) if np.isfinite(difference) else np.inf, float(np.abs(expected).max(initial=0.0))


def _alike_routed(
    found: Mapping[str, Array], expected: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """A trunk's outputs; routing-dependent outputs only for the tokens whose weights are nearly the same."""
    alike_N = (np.abs(found["weights_NE"] - expected["weights_NE"]) < _ALIKE).all(axis=1)
    decided = ("accumulator_NC", "weights_NE")
    return tuple(  # type: ignore[return-value]
        {name: array[alike_N] if name in decided else array for name, array in outputs.items()}
        for outputs in (found, expected)
    )


def _run_idle_experts(recorder: _Recorder) -> None:
    model = recorder.bundle.model
    for layer in range(model.num_layers):
        trunk = recorder.calls[f"layers.{layer}.trunk"][1]
        inputs = {
            "accumulator_NC": trunk["accumulator_NC"],
            "expert_input_NC": trunk["expert_input_NC"],
            "weight_N1": np.ones((len(trunk["accumulator_NC"]), 1), dtype=np.float32),
        }
        for expert in range(model.num_routed_experts):
            if expert_name(layer, expert) not in recorder.calls:
                recorder.run(expert_name(layer, expert), inputs)


def _run_decoder(recorder: _Recorder) -> None:
    if recorder.bundle.codec is None:
        return
    codec = BundleCodec(recorder.bundle.codec, recorder.run)
    codes_KT = np.random.default_rng(0).integers(codec.codebook_size, size=(codec.num_codebooks, 20))
    with suppress(BackendError):  # the oracle supports only our own codec
        codec.decode(codes_KT)


def _run_vision(recorder: _Recorder) -> None:
    description = recorder.bundle.manifest.get("vision")
    if not description:
        return
    vision = BundleVision(description, recorder.run)
    # Wider than one window, so that there are smaller windows at the edges.
    side = vision.config.window_size + vision.config.factor
    frames_FHWC = np.random.default_rng(0).integers(256, size=(2, side, side, 3), dtype=np.uint8)
    vision.embed(Video(frames_FHWC=frames_FHWC, seconds_per_frame=1.0))


def compare_models(
    candidate: ModelFactory,
    reference: ModelFactory,
    prompt: Prompt,
    config: ModelConfig,
    sampling: SamplingConfig,
    *,
    steps: int,
) -> Agreement:
    """The reference's greedy codes, forced on both; then the candidate's own greedy run.

    EOS is excluded for `steps` decode steps, so that both runs have the same length.
    """
    room = steps + max(config.delay_pattern) + 1
    greedy = replace(sampling, temperature=0.0, min_steps=room, max_steps=room)
    codes_of = [
        np.stack([step.codes_UK for step in islice(generate(make(_RoutingLog()), prompt, config, greedy), steps)])
        for make in (reference, candidate)
    ]
    logits, picks = zip(*(_forced(make, prompt, codes_of[0], config) for make in (reference, candidate)), strict=True)
    routing = routing_agreement(*picks)
    same_RUK = codes_of[0] == codes_of[1]
    differing = np.flatnonzero(~same_RUK.all(axis=(1, 2)))
    return Agreement(
        steps=steps,
        max_logit_error=float(np.abs(logits[0] - logits[1]).max()),
        max_logit_value=float(np.abs(logits[0]).max()),
        router_agreement=routing.decisions,
        equal_sets=routing.sets,
        token_agreement=mean(token_agreement(*logits)),
        first_difference=int(differing[0]) if len(differing) else None,
    )


def _forced(
    make: ModelFactory, prompt: Prompt, codes_RUK: NDArray[np.int64], config: ModelConfig
) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Logits [R, B, K, V] and picks of a model that reads the given rows instead of its own choices."""
    log = _RoutingLog()
    model = make(log)
    model.prefill(prompt)
    log.picks.clear()
    first_UK = np.full_like(codes_RUK[0], config.bos_id)
    logits = []
    for index, codes_UK in enumerate([first_UK, *codes_RUK[:-1]]):
        codes_BK = np.repeat(codes_UK, 2, axis=0) if prompt.paired else codes_UK
        logits.append(model.step(codes_BK, prompt.first_position_B + np.float32(index)))
    return np.stack(logits), log.picks
