"""Calibration from end to end: data, statistics, plan, quantized bundle.

result = calibrate("bundle", "bundle-int8", Settings(target="cpu"))
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.routing_statistics import SECTION as ROUTING_SECTION
from unimoe_runtime.errors import BackendError, CalibrationError, OutputError, PromptError
from unimoe_runtime.hardware.targets import Target, find_target
from unimoe_tools.parity.bundles import language_model_bytes
from unimoe_tools.planning.recording import record_routing
from unimoe_tools.profiling.machine import read_memory

from .coverage import Coverage, draw_heat_map
from .data import CalibrationData, ItemReader, read_data
from .gathering import Gathered, Progress, gather
from .mixed_precision import NUM_SAMPLES, mix_precisions
from .pareto import draw_pareto
from .planning import choose_schemes, plan_quantization
from .schemes import Engine, QuantizationPlan, Scheme
from .search import Limits, Mixture
from .settings import Settings
from .writing import require_float, write_quantized

HEAT_MAP = "calibration/coverage.png"
"""The picture of the coverage in a quantized bundle; it stands outside the manifest."""
PARETO = "calibration/pareto.png"
"""The picture of the search for a mixture, where limits asked for one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationResult:
    """What a calibration did. Bytes before and after are those of the language model's graphs and weights;
    `peak_bytes` is what the whole process had resident at most so far, None where the system does not tell."""

    path: Path
    settings: Settings
    scheme: str
    coverage: Coverage
    warnings: tuple[str, ...]
    precisions: dict[str, int]
    bytes_before: int
    bytes_after: int
    num_items: int
    num_cached: int
    seconds: float
    peak_bytes: int | None
    mixture: Mixture | None

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bundle": str(self.path),
            "target": self.settings.target,
            "scheme": self.scheme,
            "method": self.settings.method,
            "precisions": self.precisions,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "items": self.num_items,
            "items_from_cache": self.num_cached,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "coverage": self.coverage.record(),
            "warnings": list(self.warnings),
            "mixture": None if self.mixture is None else self.mixture.record(),
        }


def calibrate(
    bundle_dir: Path | str,
    out_dir: Path | str,
    settings: Settings,
    *,
    data: Path | str | None = None,
    cache_dir: Path | str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> CalibrationResult:
    """Quantize a float32 bundle for a target, by what its graphs meet while they read the data.

    `data` as in `read_data`; None takes the bundle's own small set. With `cache_dir` the statistics are kept, for a
    run that goes on and for another method. Same bundle, data, settings: the same bundle, byte for byte.

    Raises CalibrationError for data that cannot be used, activations that are no numbers, and, with
    `settings.strict`, a floor that is missed; ConfigError for a target that lacks the scheme; BundleError for a bundle
    that is not float32; OutputError where the result cannot be written. Nothing is left behind then.
    """
    started = time.perf_counter()
    bundle, out = open_bundle(bundle_dir), Path(out_dir)
    require_float(bundle)
    target = find_target(settings.target)
    scheme = target.choose_scheme(settings.scheme)
    if out.resolve() == bundle.path.resolve():
        raise OutputError(f"{out}: is the bundle itself; choose another name")
    with Reservation(out, replace=replace) as place:  # before the work, which may take an hour
        found = read_data(None if data is None else Path(data), bundle)
        gathered = gather(
            bundle, found, settings, cache_dir=None if cache_dir is None else Path(cache_dir), progress=progress
        )
        return _quantize(bundle, place, settings, found, gathered, _Run(target, scheme, started, progress))


@dataclass(frozen=True)
class _Run:
    """What a calibration is for, when it started, and whom it tells how far it is."""

    target: Target
    scheme: str
    started: float
    progress: Progress | None


def _quantize(
    bundle: Bundle, place: Reservation, settings: Settings, found: CalibrationData, gathered: Gathered, run: _Run
) -> CalibrationResult:
    """Plan and write the bundle by what was gathered."""
    out, target, scheme = place.target, run.target, run.scheme
    warnings = gathered.coverage.warnings(bundle)
    below = gathered.coverage.below()
    if below and settings.strict:
        raise CalibrationError(f"{warnings[-1]}: give more data (--data), or lower --floor")
    report: Progress = run.progress or (lambda what, done, total: None)

    def report_index(index: int, count: int, name: str) -> None:
        report(name, index, count)

    engine = Engine(target.engine)
    schemes, labels = choose_schemes(gathered.statistics, Scheme(scheme), engine, below, settings.fallback)
    plan, decisions = plan_quantization(
        bundle, gathered.statistics, schemes, engine, method=settings.method, progress=report_index
    )
    record: dict[str, Any] = {
        "target": target.name,
        "scheme": scheme,
        "method": settings.method,
        "seed": settings.seed,
        "data": {
            "source": found.source,
            "sha256": found.sha256,
            "items": len(gathered.items),
            "tokens": dict(gathered.coverage.num_tokens),
        },
        "coverage": gathered.coverage.record(),
        "fallbacks": labels,
    }
    limits = Limits(max_bytes=settings.max_bytes, max_latency_ms=settings.max_latency_ms, max_loss=settings.max_loss)
    mixture = None
    if limits != Limits():
        plan, mixture = _mix(bundle, plan, gathered, limits, target, settings, out.absolute().parent, report)
        record["mixture"] = mixture.record()
    record["products"] = {
        str(linear): decisions[linear].record() | {"scheme": str(one.scheme)} for linear, one in plan.linears.items()
    }
    report("routing", 0, 1)
    routing = _routing_statistics(bundle)
    write_quantized(bundle, place, plan, record, sections=routing, progress=report_index)
    (out / HEAT_MAP).parent.mkdir(exist_ok=True)
    draw_heat_map(gathered.coverage, out / HEAT_MAP)
    if mixture is not None:
        draw_pareto(mixture, limits, out / PARETO)
    written, memory = open_bundle(out), read_memory()
    return CalibrationResult(
        path=out,
        settings=settings,
        scheme=scheme,
        coverage=gathered.coverage,
        warnings=tuple(warnings),
        precisions=_precisions(written),
        bytes_before=language_model_bytes(bundle),
        bytes_after=language_model_bytes(written),
        num_items=len(gathered.items),
        num_cached=gathered.num_cached,
        seconds=time.perf_counter() - run.started,
        peak_bytes=None if memory is None else memory.peak,
        mixture=mixture,
    )


def _mix(
    bundle: Bundle,
    plan: QuantizationPlan,
    gathered: Gathered,
    limits: Limits,
    target: Target,
    settings: Settings,
    folder: Path,
    report: Progress,
) -> tuple[QuantizationPlan, Mixture]:
    with ItemReader(bundle, seed=settings.seed) as reader:
        samples = [reader.read(item) for item in gathered.items[:NUM_SAMPLES]]
    return mix_precisions(bundle, plan, samples, limits, target, folder, report)


def _precisions(bundle: Bundle) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in language_model_graphs(bundle.model):
        precision = bundle.graphs[name].precision
        counts[precision] = counts.get(precision, 0) + 1
    return counts


def _routing_statistics(bundle: Bundle) -> dict[str, Any]:
    """The manifest's section that says which experts the bundle's own examples launch, for `unimoe plan`; nothing
    where it has one already, or where the examples need what is not there (a recording of a voice)."""
    if ROUTING_SECTION in bundle.manifest:
        return {}
    try:
        return {ROUTING_SECTION: record_routing(bundle.path)}
    except (BackendError, PromptError):
        return {}
