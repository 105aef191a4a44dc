"""The result of a calibration, as a record for JSON, the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.hardware.precisions import scheme_precision, shown_precision
from unimoe_tools.parity.limits import BundleReport

from .coverage import Coverage
from .search import Mixture, MixtureLimits
from .sensitivity import Sensitivity
from .settings import Settings

HEAT_MAP = "calibration/coverage.png"
"""The chart of the coverage in a quantized bundle; the manifest does not list it."""
PARETO = "calibration/pareto.png"
"""The chart of the search for a mixture, where limits asked for one."""
REPORT = "calibration/report.html"
"""The page of the result; the manifest does not list it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationResult:
    """The result of a calibration. Bytes before and after are those of the language model's graphs and weights.
    `peak_bytes` is the largest resident memory of the whole process so far, None where the system does not report it.
    `products`: how each product is quantized, by "graph/weight". `fallbacks`: why a graph differs from the request.
    """

    path: Path
    source: Path
    settings: Settings
    scheme: str
    coverage: Coverage
    warnings: tuple[str, ...]
    precisions: dict[str, int]
    products: Mapping[str, Mapping[str, Any]]
    fallbacks: Mapping[str, str]
    sensitivities: tuple[Sensitivity, ...]
    bytes_before: int
    bytes_after: int
    num_items: int
    num_cached: int
    seconds: float
    peak_bytes: int | None
    mixture: Mixture | None
    limits: MixtureLimits
    verification: BundleReport | None

    @property
    def num_decisions(self) -> int:
        """The (token, layer, expert) decisions that `sensitivities` count flips of; 0 if they were not measured."""
        picks_LE = self.coverage.total
        return self.sensitivities[0].divergence.num_tokens * picks_LE.size if self.sensitivities else 0

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bundle": str(self.path),
            "target": self.settings.target,
            "precision": scheme_precision(self.scheme),
            "scheme": self.scheme,
            "method": self.settings.method,
            "precisions": {shown_precision(name): count for name, count in self.precisions.items()},
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "items": self.num_items,
            "items_from_cache": self.num_cached,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "coverage": self.coverage.record(),
            "warnings": list(self.warnings),
            "fallbacks": dict(self.fallbacks),
            "sensitivity": [found.record() for found in self.sensitivities],
            "mixture": None if self.mixture is None else self.mixture.record(),
            "verification": None if self.verification is None else self.verification.to_dict(),
        }
