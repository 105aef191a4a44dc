"""Whether a set of engines computes on this machine what the CPU computes: compared engine by engine, and recorded.

An engine that builds may still be wrong on the device that it is built for, and no build machine can tell. `unimoe
verify --backend tensorrt` writes BUNDLE/engines/TARGET/verification.json; `unimoe synth` says so where there is none
for these engines and this GPU.

N tokens · S cache capacity
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from .backends import Array, Backend
from .checkpoint import read_json
from .comparison import Agreement, allowed_error, compare_models, compare_outputs, record_calls, tolerance_of
from .doctor.probes import gpus_here
from .doctor.system import driver_version
from .engines import EngineRecord, EngineSet
from .errors import EngineError
from .language_model import BundleModel
from .partial_file import PartialFile
from .requests import Request

VERIFICATION_JSON: Final = "verification.json"
VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class EngineVerdict:
    """One engine beside the reference: largest error over its outputs, what is allowed, the hash of what it gave."""

    precision: str
    max_abs_error: float
    max_abs_value: float
    allowed: float
    result_sha256: str

    @property
    def passed(self) -> bool:
        return self.max_abs_error <= self.allowed


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A set of engines, verified once. `engines_sha256` is that of engines.json, which holds every engine's.

    `machine`: what `this_machine` said. `router_agreement_needed`: of `agreement`, whose logits and codes are told and
    not judged, since one token that is routed otherwise changes all that follow.
    """

    engines_sha256: str
    backend: str
    reference: str
    machine: Mapping[str, str | None]
    date: str
    engines: Mapping[str, EngineVerdict]
    agreement: Agreement
    router_agreement_needed: float

    @property
    def passed(self) -> bool:
        enough = self.agreement.router_agreement >= self.router_agreement_needed
        return enough and all(verdict.passed for verdict in self.engines.values())

    def to_dict(self) -> dict[str, Any]:
        engines = {key: {**asdict(verdict), "passed": verdict.passed} for key, verdict in self.engines.items()}
        return {"version": VERSION, "passed": self.passed, **asdict(self), "engines": engines}


def this_machine() -> dict[str, str | None]:
    """The first GPU and its driver; a verification counts where these are the same."""
    found = gpus_here()
    gpu = found.gpus[0] if found.gpus else None
    return {
        "gpu": None if gpu is None else gpu.name,
        "compute_capability": None if gpu is None else "{}.{}".format(*gpu.compute_capability),
        "driver": driver_version(),
        "cuda": found.cuda,
        "system": f"{platform.system()} {platform.machine()}",
    }


def router_agreement_needed(precision: str) -> float:
    """The share of equal decisions of the router that is enough on another device: float32 differs there in the order
    of its sums alone."""
    return 0.999 if precision == "float32" else 0.97


def verify_engines(
    candidate: Backend,
    reference: Backend,
    engine_set: EngineSet,
    request: Request,
    *,
    steps: int,
    tolerance: float | None = None,
    tick: Callable[[int, int], object] = lambda done, total: None,
) -> Verification:
    """Run every engine on the inputs that the reference meets, then decode with both, at most `steps` steps.

    Inputs are cut to the engine's profile, and a trunk's caches to each of its capacities. `tolerance` instead of each
    precision's own. `tick`: engines done and of all. Raises EngineError where a prompt leaves no room in the largest
    cache, BackendError where an engine fails.
    """
    calls = record_calls(reference, request.prompt)
    keys = [key for key, record in engine_set.engines.items() if record.graph in calls]
    verdicts = {}
    for number, key in enumerate(keys, start=1):
        record = engine_set.engines[key]
        verdicts[key] = _judge(candidate, reference, engine_set, record, calls[record.graph][0], tolerance)
        tick(number, len(keys))
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
        max_abs_error=compared.max_abs_error,
        max_abs_value=compared.max_abs_value,
        allowed=allowed_error(compared.max_abs_value, tolerance),
        result_sha256=digest.hexdigest(),
    )


def _fitted(engine_set: EngineSet, record: EngineRecord, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs, cut to the largest shapes of the engine's profile; caches and mask of exactly its capacity.

    A letter of a name is an axis: key_cache_BHSD has rows, heads, slots, and their size.
    """
    longest = {"B": engine_set.max_rows, "T": engine_set.max_positions}
    longest["N"] = engine_set.max_rows * engine_set.max_positions
    if record.cache_capacity is not None:
        longest |= {"T": min(engine_set.max_positions, record.cache_capacity), "S": record.cache_capacity}
    fitted = {}
    for name, array in inputs.items():
        if name in record.profile:
            array = array[tuple(slice(most) for most in record.profile[name][2])]
        if record.graph.startswith("layers.") or record.graph == "head":
            axes = name.rpartition("_")[2]
            array = array[tuple(slice(longest.get(axis)) for axis in axes)]
            missing = [
                max(0, longest["S"] - size) if axis == "S" else 0 for axis, size in zip(axes, array.shape, strict=True)
            ]
            array = np.pad(array, [(0, room) for room in missing])
        fitted[name] = np.ascontiguousarray(array)
    weight_N1 = fitted.get("weight_N1")
    if weight_N1 is not None and not (weight_N1 > 0).any():  # an expert that would add nothing
        fitted["weight_N1"] = np.ones_like(weight_N1)
    return fitted


def write_verification(folder: Path, verification: Verification) -> Path:
    """Put the record beside the engines, in place of an older one. Raises OSError."""
    path = folder / VERIFICATION_JSON
    file = PartialFile(path)
    try:
        file.path.write_text(json.dumps(verification.to_dict(), indent=1) + "\n", encoding="utf-8")
        file.keep()
    finally:
        file.drop()
    return path


def read_verification(folder: Path) -> Verification | None:
    """The record of a folder, None where there is none. Raises EngineError for one that is damaged."""
    path = folder / VERIFICATION_JSON
    if not path.is_file():
        return None
    described = read_json(path, EngineError)
    try:
        if described["version"] != VERSION:
            raise ValueError(f"version {described['version']}, this release reads {VERSION}")
        engines = {
            key: EngineVerdict(**{name: value for name, value in verdict.items() if name != "passed"})
            for key, verdict in described["engines"].items()
        }
        fields = {name: value for name, value in described.items() if name not in ("version", "passed")}
        return Verification(**{**fields, "engines": engines, "agreement": Agreement(**described["agreement"])})
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        reason = f"the field {problem} is missing" if isinstance(problem, KeyError) else problem
        raise EngineError(f"{path}: damaged: {reason}; verify again") from None


def doubt(engine_set: EngineSet, machine: Mapping[str, str | None] | None = None) -> str | None:
    """Why the engines are not to be trusted here yet, as one line; None where they passed on this GPU and driver."""
    machine = machine or this_machine()
    name, step = engine_set.target, f"`unimoe verify BUNDLE --backend tensorrt --target {engine_set.target}`"
    try:
        record = read_verification(engine_set.path)
    except EngineError as problem:
        return f"the engines for {name} count as never verified here: {problem}"
    if record is None:
        return f"the engines for {name} were never verified here; {step} compares each with the CPU"
    if record.engines_sha256 != engine_set.sha256():
        return f"the engines for {name} were built anew since they were verified; {step} compares each with the CPU"
    for part in ("gpu", "compute_capability", "driver"):
        if record.machine.get(part) != machine.get(part):
            was, now = (known.get(part) or "unknown" for known in (record.machine, machine))
            part = part.replace("_", " ")
            return f"the engines for {name} were never verified here: {part} was {was}, here it is {now}; {step}"
    if not record.passed:
        return f"the engines for {name} FAILED their verification here on {record.date[:10]}; {step} shows where"
    return None
