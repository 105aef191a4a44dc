"""Whether a set of engines gives the CPU's results on this machine: compared engine by engine, and recorded.

A successfully built engine may still be wrong on its device, which the build machine cannot detect. `unimoe verify
--backend tensorrt` writes BUNDLE/engines/TARGET/verification.json; `unimoe synth` reports where it is missing for these
engines and this GPU.

N tokens · S cache capacity
"""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Callable, Mapping

import numpy as np

from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.bundle.engine_sets import EngineRecord, EngineSet
from unimoe_runtime.bundle.engine_verification import EngineVerdict, Verification, this_machine
from unimoe_runtime.errors import EngineError
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.graphs import allowed_error, compare_models, compare_outputs, record_calls, tolerance_of
from unimoe_tools.parity.sample_requests import standard_requests


def router_agreement_needed(precision: str) -> float:
    """The sufficient share of equal router decisions on another device, where float32 differs only in the order of
    its sums."""
    return 0.999 if precision == "float32" else 0.97


def verify_engines(
    candidate: Backend,
    reference: Backend,
    engine_set: EngineSet,
    *,
    steps: int,
    tolerance: float | None = None,
    progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Verification:
    """Run every engine on the reference's inputs, then decode with both, at most `steps` steps.

    Inputs are cut to the engine's profile, and a trunk's caches to each of its capacities. `tolerance` replaces each
    precision's own. `progress`: the engine, engines done, all. Raises EngineError where a prompt leaves no room in
    the largest cache, BackendError where an engine fails.
    """
    request = standard_requests(candidate.bundle)[0]
    calls = record_calls(reference, request.prompt)
    keys = [key for key, record in engine_set.engines.items() if record.graph in calls]
    verdicts = {}
    for number, key in enumerate(keys, start=1):
        record = engine_set.engines[key]
        verdicts[key] = _judge(candidate, reference, engine_set, record, calls[record.graph][0], tolerance)
        progress(key, number, len(keys))
    model = candidate.bundle.model
    room = engine_set.cache_capacities[-1] - request.prompt.text_ids_BT.shape[1] - max(model.delay_pattern) - 1
    if room < 1:
        raise EngineError(
            f"{engine_set.path}: the largest cache, {engine_set.cache_capacities[-1]}, has no room for a prompt of "
            f"{request.prompt.text_ids_BT.shape[1]}; build again with a larger --cache-capacity"
        )
    agreement = compare_models(
        lambda observer: BundleModel(candidate, observer=observer),
        lambda observer: BundleModel(reference, observer=observer),
        request.prompt,
        model,
        request.sampling,
        steps=min(steps, room),
    )
    return Verification(
        engines_sha256=engine_set.sha256(),
        backend=candidate.name,
        reference=reference.name,
        machine=this_machine(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        engines=verdicts,
        agreement=agreement,
        router_agreement_needed=min(map(router_agreement_needed, engine_set.precisions)),
    )


def _judge(
    candidate: Backend,
    reference: Backend,
    engine_set: EngineSet,
    record: EngineRecord,
    met: Mapping[str, Array],
    tolerance: float | None,
) -> EngineVerdict:
    inputs = _fitted(engine_set, record, met)
    expected = reference.run(record.graph, inputs)
    found = candidate.run(record.graph, inputs)
    compared = compare_outputs(record.graph, record.precision, found, expected)
    if tolerance is None:
        tolerance = tolerance_of(record.precision)
    digest = hashlib.sha256()
    for name in sorted(expected):
        digest.update(name.encode() + np.ascontiguousarray(found[name]).tobytes())
    return EngineVerdict(
        precision=record.precision,
        max_abs_error=min(compared.max_abs_error, sys.float_info.max),  # JSON has no infinity
        max_abs_value=compared.max_abs_value,
        allowed=allowed_error(compared.max_abs_value, tolerance),
        result_sha256=digest.hexdigest(),
    )


def _fitted(engine_set: EngineSet, record: EngineRecord, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs, cut to the largest shapes of the engine's profile; caches and mask have exactly its capacity.

    A name's suffix letters are its axes: key_cache_BSX has rows, slots and a width.
    """
    longest = {"B": engine_set.max_rows, "T": engine_set.max_positions}
    longest["N"] = engine_set.max_rows * engine_set.max_positions
    if record.cache_capacity is not None:
        longest |= {"T": min(engine_set.max_positions, record.cache_capacity), "S": record.cache_capacity}
    if "mask_B1QS" in inputs:  # several rows of queries for each position
        longest["Q"] = longest["T"] * (inputs["mask_B1QS"].shape[2] // inputs["hidden_BTC"].shape[1])
    fitted = {}
    for name, array in inputs.items():
        if name in record.profile:
            most = record.profile[name][2]
            if len(most) > array.ndim:  # an engine's cache has one head
                most = (most[0], *most[2:])
            array = array[tuple(map(slice, most))]
        if record.graph.startswith("layers.") or record.graph == "head":
            axes = name.rpartition("_")[2]
            array = array[tuple(slice(longest.get(axis)) for axis in axes)]
            missing = [
                max(0, longest["S"] - size) if axis == "S" else 0 for axis, size in zip(axes, array.shape, strict=True)
            ]
            array = np.pad(array, [(0, room) for room in missing])
        fitted[name] = np.ascontiguousarray(array)
    if "hidden_NC" in fitted and "hidden_BTC" in fitted:  # the same values
        hidden_BTC = fitted["hidden_BTC"]
        fitted["hidden_NC"] = hidden_BTC.reshape(-1, hidden_BTC.shape[-1])
    weight_N1 = fitted.get("weight_N1")
    if weight_N1 is not None and not (weight_N1 > 0).any():  # the expert would add nothing
        fitted["weight_N1"] = np.ones_like(weight_N1)
    return fitted
