"""The record that `unimoe verify` leaves beside a set of engines: BUNDLE/engines/TARGET/verification.json.

An engine that builds may still compute wrong results on its device, and the build machine cannot detect that.
`unimoe synth` warns if there is no record for these engines and this GPU.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.errors import ConfigError, EngineError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.json import read_json
from unimoe_runtime.hardware.probes import gpus_here
from unimoe_runtime.hardware.system import driver_version
from unimoe_runtime.records import JsonRecord, shown

VERIFICATION_JSON: Final = "verification.json"
VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Agreement(JsonRecord):
    """How far two models agree under teacher forcing on the same codes, and in a greedy run of each.

    `router_agreement` is the share of equal (token, layer, expert) decisions, `equal_sets` the share of (token,
    layer) pairs whose whole set of picks is equal. `first_difference` is the first step of the greedy runs at which a
    code differs; None if all `steps` agree.
    """

    steps: int
    max_logit_error: float
    max_logit_value: float
    router_agreement: float
    equal_sets: float
    token_agreement: float
    first_difference: int | None


@dataclass(frozen=True, kw_only=True)
class EngineVerdict(JsonRecord):
    """One engine against the reference: largest error of its outputs, the tolerance, and the hash of the outputs."""

    precision: str
    max_abs_error: float
    max_abs_value: float
    allowed: float
    result_sha256: str

    @property
    def passed(self) -> bool:
        return self.max_abs_error <= self.allowed


@dataclass(frozen=True, kw_only=True)
class Verification(JsonRecord):
    """A verified engine set. `engines_sha256` is the hash of engines.json, which holds that of every engine.

    `machine`: the result of `this_machine`. `router_agreement_needed`: the threshold for `agreement`. Its logits and
    codes are reported but not judged, because one token that is routed differently changes all later ones.
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
    """The first GPU and its driver; a verification is valid for the same GPU and driver only."""
    found = gpus_here()
    gpu = found.gpus[0] if found.gpus else None
    return {
        "gpu": None if gpu is None else gpu.name,
        "compute_capability": None if gpu is None else "{}.{}".format(*gpu.compute_capability),
        "driver": driver_version(),
        "cuda": found.cuda,
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_verification(folder: Path, verification: Verification) -> Path:
    """Write the record beside the engines, replacing an older one. Raises OSError."""
    path = folder / VERIFICATION_JSON
    write_atomically(path, json.dumps(verification.to_dict(), indent=1) + "\n")
    return path


def read_verification(folder: Path) -> Verification | None:
    """The record of a folder; None if there is none. Raises EngineError for a damaged record."""
    path = folder / VERIFICATION_JSON
    if not path.is_file():
        return None
    described = read_json(path, EngineError)
    if described.get("version") != VERSION:
        raise EngineError(
            f"{path}: version {shown(described.get('version'))}, this release reads {VERSION}; verify again"
        )
    described = {name: value for name, value in described.items() if name not in ("version", "passed")}
    engines = described.get("engines")
    if isinstance(engines, dict):
        described["engines"] = {
            key: {name: value for name, value in verdict.items() if name != "passed"}
            if isinstance(verdict, dict)
            else verdict
            for key, verdict in engines.items()
        }
    try:
        return Verification.from_dict(described)
    except ConfigError as error:
        raise EngineError(f"{path}: damaged: {error}; verify again") from None


def engine_warning(engine_set: EngineSet, machine: Mapping[str, str | None] | None = None) -> str | None:
    """Why the engines are not verified here yet, as one line; None if they passed on this GPU and driver."""
    machine = machine or this_machine()
    name, step = engine_set.target, f"`unimoe verify BUNDLE --backend tensorrt --target {engine_set.target}`"
    try:
        record = read_verification(engine_set.path)
    except EngineError as error:
        return f"the engines for {name} count as never verified here: {error}"
    if record is None:
        return f"the engines for {name} were never verified here; {step} compares each with the CPU"
    if record.engines_sha256 != engine_set.sha256():
        return f"the engines for {name} were rebuilt after they were verified; {step} compares each with the CPU"
    for part in ("gpu", "compute_capability", "driver"):
        if record.machine.get(part) != machine.get(part):
            was, now = (known.get(part) or "unknown" for known in (record.machine, machine))
            part = part.replace("_", " ")
            return f"the engines for {name} were never verified here: {part} was {was}, here it is {now}; {step}"
    if not record.passed:
        return f"the engines for {name} FAILED their verification here on {record.date[:10]}; {step} shows where"
    return None
