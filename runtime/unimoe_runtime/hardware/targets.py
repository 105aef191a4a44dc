"""The one table of deployment targets (targets.toml), and the types in which each of them can multiply."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.json import read_toml
from unimoe_runtime.hardware.precisions import scheme_precision

USER_TARGETS = "UNIMOE_TARGETS"
"""Environment variable: may name a file with further targets, or with other figures for known ones."""

# The first TensorRT whose parser has every operator of our graphs: Attention since 10.14, RMSNormalization and
# TensorScatter since 10.15 (onnx-tensorrt's changelog).
MIN_TENSORRT = (10, 15)

_TABLE = Path(__file__).with_name("targets.toml")
_ENGINES = ("onnxruntime", "tensorrt")
FLAVOURS = ("tensorrt-rtx", "tensorrt")
_PRECISIONS = ("float32", "float16", "bfloat16", "int8", "fp8", "int4")
# Compute capabilities that TensorRT-RTX builds for, and the types in which it multiplies there if the hardware supports
# more.
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
_RTX_PRECISIONS: Mapping[tuple[int, int], tuple[str, ...]] = {(7, 5): ("float32", "float16")}
# The type in which a quantization scheme multiplies, in the order of preference: 8-bit weights and inputs first.
_SCHEMES: Mapping[str, str] = {"w8a8": "int8", "fp8": "fp8", "w8": "int8", "w4": "int4"}
# On a CPU a step of one stream is fastest with 8-bit weights alone: fewer nodes, and a kernel that reads them nearly at
# the memory's rate. 8-bit inputs are faster from about 8 rows on: many streams at once, long prompts.
_CPU_ORDER = ("w8", "w8a8", "w4", "fp8")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of machine. `memory_gb` and `bandwidth_gb_per_s` (10^9 bytes) are None where they depend on the
    machine; `compute_capability` and `flavour` (of TensorRT) are None for a CPU."""

    name: str
    title: str
    engine: str
    precisions: tuple[str, ...]
    compute_capability: tuple[int, int] | None = None
    flavour: str | None = None
    memory_gb: float | None = None
    bandwidth_gb_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.engine not in _ENGINES:
            raise ConfigError(f"target {self.name}: engine is {self.engine!r}; it must be {' or '.join(_ENGINES)}")
        unknown = [precision for precision in self.precisions if precision not in _PRECISIONS]
        if unknown or not self.precisions:
            raise ConfigError(
                f"target {self.name}: precisions are {list(self.precisions)}; take some of {', '.join(_PRECISIONS)}"
            )
        if (self.engine == "tensorrt") != (self.compute_capability is not None):
            raise ConfigError(f"target {self.name}: a compute_capability is needed for TensorRT, and only for it")
        if self.compute_capability is not None and self.flavour is None:
            served = self.compute_capability in RTX_CAPABILITIES
            object.__setattr__(self, "flavour", "tensorrt-rtx" if served else "tensorrt")
        if self.flavour not in (FLAVOURS if self.engine == "tensorrt" else (None,)):
            raise ConfigError(
                f"target {self.name}: flavour is {self.flavour!r}; it must be {' or '.join(FLAVOURS)}, and is only "
                "for TensorRT"
            )
        for field in ("memory_gb", "bandwidth_gb_per_s"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ConfigError(f"target {self.name}: {field} is {value}; it must be above 0")

    @property
    def schemes(self) -> tuple[str, ...]:
        """Quantization schemes that it supports, the preferred one first."""
        schemes = tuple(scheme for scheme, precision in _SCHEMES.items() if precision in self.precisions)
        return tuple(sorted(schemes, key=_CPU_ORDER.index)) if self.engine == "onnxruntime" else schemes

    def engine_precisions(self, flavour: str) -> tuple[str, ...]:
        """The precisions in which a flavour of TensorRT multiplies on this target."""
        fewer = _RTX_PRECISIONS.get(self.compute_capability or (0, 0)) if flavour == "tensorrt-rtx" else None
        return fewer or self.precisions

    def choose_scheme(self, scheme: str | None) -> str:
        """The requested scheme, or the target's preferred one. Raises ConfigError for a scheme that it lacks."""
        if not self.schemes:
            raise ConfigError(
                f"target {self.name} ({self.title}) supports no quantized products: it has neither int8 nor fp8"
            )
        if scheme is None:
            return self.schemes[0]
        if scheme not in self.schemes:
            raise ConfigError(
                f"target {self.name} ({self.title}{self._capability()}) has no {_SCHEMES.get(scheme, scheme)}; "
                f"it takes --precision {', '.join(map(scheme_precision, self.schemes))}"
            )
        return scheme

    def _capability(self) -> str:
        return "" if self.compute_capability is None else ", SM{}{}".format(*self.compute_capability)


def open_targets() -> dict[str, Target]:
    """All targets by name: those of the table and of the file that UNIMOE_TARGETS names.

    Raises ConfigError, one line, if that file or a row of it is invalid.
    """
    targets = _read(_TABLE)
    user = os.environ.get(USER_TARGETS)
    return {**targets, **_read(Path(user))} if user else targets


def find_target(name: str) -> Target:
    """The target of that name, or any GPU of a compute capability ("sm86"). Raises ConfigError, which lists the
    known names."""
    targets = open_targets()
    capability = re.fullmatch(r"sm(\d{1,2})(\d)", name)
    if name not in targets and capability is not None:
        return _any_gpu(name, (int(capability[1]), int(capability[2])))
    if name not in targets:
        raise ConfigError(
            f"no target {name!r}; there are {', '.join(targets)} (add others in a file that {USER_TARGETS} names)"
        )
    return targets[name]


def _any_gpu(name: str, capability: tuple[int, int]) -> Target:
    """A GPU of which only the compute capability is known."""
    first = {"float32": (0, 0), "float16": (0, 0), "bfloat16": (8, 0), "int8": (7, 5), "fp8": (8, 9), "int4": (8, 0)}
    return Target(
        name=name,
        title="any GPU of compute capability {}.{}".format(*capability),
        engine="tensorrt",
        precisions=tuple(precision for precision in _PRECISIONS if capability >= first[precision]),
        compute_capability=capability,
    )


def _read(path: Path) -> dict[str, Target]:
    rows = read_toml(path, ConfigError)
    try:
        return {name: _target(name, row) for name, row in rows.items()}
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _target(name: str, row: Any) -> Target:
    if not isinstance(row, dict):
        raise ConfigError(f"target {name}: a row is a table, [{name}]")
    fields: dict[str, Any] = {**row, "name": name}
    capability = fields.get("compute_capability")
    if capability is not None:
        match = re.fullmatch(r"(\d+)\.(\d)", str(capability))
        if match is None:
            raise ConfigError(f'target {name}: compute_capability is {capability!r}; write it as "8.6"')
        fields["compute_capability"] = (int(match[1]), int(match[2]))
    try:
        fields["precisions"] = tuple(map(str, fields["precisions"]))
        return Target(**fields)
    except KeyError as error:
        raise ConfigError(f"target {name}: lacks the field {error}") from None
    except TypeError as error:
        raise ConfigError(f"target {name}: {str(error).removeprefix('Target.__init__() ')}") from None
