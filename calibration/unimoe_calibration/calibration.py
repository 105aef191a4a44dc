"""Calibration from end to end: data, statistics, plan, quantized bundle.

result = calibrate("bundle", "bundle-int8", Settings(target="cpu"))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.routing_statistics import SECTION as ROUTING_SECTION
from unimoe_runtime.errors import BackendError, CalibrationError, OutputError, PromptError
from unimoe_runtime.hardware.precisions import scheme_precision
from unimoe_runtime.hardware.targets import Target, find_target
from unimoe_tools.output import write_output
from unimoe_tools.parity.bundles import compare_bundles, language_model_bytes
from unimoe_tools.parity.limits import BundleReport, limit_bundles
from unimoe_tools.parity.sample_requests import standard_requests
from unimoe_tools.planning.recording import record_routing
from unimoe_tools.profiling.machine import read_memory

from .coverage import Coverage, draw_heat_map
from .data import CalibrationData, ItemReader, read_data
from .decisions import choose_schemes, plan_quantization
from .gathering import Gathered, Progress, gather
from .mixed_precision import NUM_SAMPLES, mix_precisions, open_formats
from .pareto import draw_pareto
from .report import as_html
from .result import HEAT_MAP, PARETO, REPORT, CalibrationResult
from .schemes import Engine, Scheme
from .search import MixtureLimits
from .sensitivity import Sensitivity, measure
from .settings import FALLBACK_EFFECTS, Settings
from .writing import require_float, write_quantized


def calibrate(
    bundle_dir: Path | str,
    out_dir: Path | str,
    settings: Settings,
    *,
    replace: bool = False,
    progress: Progress | None = None,
    on_coverage: Callable[[Coverage], object] = lambda coverage: None,
) -> CalibrationResult:
    """Quantize a float32 bundle for a target, by the inputs that its graphs receive while they read the data.

    `on_coverage` receives the coverage as soon as the data are read, before `settings.strict` fails the calibration.
    The same bundle, data and settings give the same result, byte for byte.

    Raises CalibrationError for data that cannot be used, non-finite activations and, with `settings.strict`, a missed
    floor; ConfigError for a target that lacks the scheme; BundleError for a bundle that is not float32; OutputError
    where the result cannot be written. After an error no partial output remains.
    """
    started = time.perf_counter()
    bundle, out = open_bundle(bundle_dir), Path(out_dir)
    require_float(bundle)
    target = find_target(settings.target)
    scheme = target.choose_scheme(settings.scheme)
    if out.resolve() == bundle.path.resolve():
        raise OutputError(f"{out}: is the bundle itself; choose another name")
    tell: Progress = progress or (lambda what, done, total: None)
    with Reservation(out, replace=replace) as place:  # before the work, which may take an hour
        found = read_data(settings.data, bundle)
        gathered = gather(bundle, found, settings, progress=tell)
        on_coverage(gathered.coverage)
        return _quantize(
            bundle, place, settings, found, gathered, _Run(target=target, scheme=scheme, started=started, tell=tell)
        )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A calibration's inputs, its start time and its progress callback."""

    target: Target
    scheme: str
    started: float
    tell: Progress


def _effect(scheme: Scheme, fallback: str) -> str:
    """What too few tokens mean for an expert, in words."""
    if scheme.quantizes_inputs:
        return f"{FALLBACK_EFFECTS[fallback]} (more --data, or another --fallback, changes that)"
    return f"{scheme_precision(scheme)} quantizes no inputs and needs no tokens for it: these experts are as the others"


def _quantize(
    bundle: Bundle, place: Reservation, settings: Settings, found: CalibrationData, gathered: Gathered, run: _Run
) -> CalibrationResult:
    """Plan and write the bundle from the gathered statistics."""
    out, target, scheme, tell = place.target, run.target, run.scheme, run.tell
    warnings = gathered.coverage.warnings(bundle)
    below = gathered.coverage.below()
    if below and settings.strict:
        raise CalibrationError(f"{warnings[-1]}: give more data (--data), or lower --floor")
    if below:
        warnings[-1] += f"; {_effect(Scheme(scheme), settings.fallback)}"
    engine = Engine(target.engine)
    schemes, labels = choose_schemes(gathered.statistics, Scheme(scheme), engine, below, settings.fallback)
    plan, decisions = plan_quantization(
        bundle, gathered.statistics, schemes, engine, method=settings.method, progress=tell
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
    limits = MixtureLimits(
        max_bytes=settings.max_bytes, max_latency_ms=settings.max_latency_ms, max_loss=settings.max_loss
    )
    mixture = None
    sensitivities: tuple[Sensitivity, ...] = ()
    if limits != MixtureLimits() or settings.flips:
        with ItemReader(bundle, seed=settings.seed) as reader:
            samples = [reader.read(item) for item in gathered.items[:NUM_SAMPLES]]
        with open_formats(bundle, plan, samples, target, out.absolute().parent, tell) as formats:
            sensitivities = tuple(measure(formats.trial, formats.quantized, tell))
            if limits != MixtureLimits():
                plan, mixture = mix_precisions(formats, plan, limits, sensitivities, target)
                record["mixture"] = mixture.record()
    record["products"] = {str(linear): decisions[linear].under(one).record() for linear, one in plan.linears.items()}
    tell("routing", 0, 1)
    routing = _routing_statistics(bundle)
    write_quantized(bundle, place, plan, record, sections=routing, progress=tell)
    (out / HEAT_MAP).parent.mkdir(exist_ok=True)
    draw_heat_map(gathered.coverage, out / HEAT_MAP)
    if mixture is not None:
        draw_pareto(mixture, limits, out / PARETO)
    written, memory = open_bundle(out), read_memory()
    verification = _verify(written, bundle, settings, tell)
    result = CalibrationResult(
        path=out,
        source=bundle.path,
        settings=settings,
        scheme=scheme,
        coverage=gathered.coverage,
        warnings=tuple(warnings),
        precisions=_precisions(written),
        products=record["products"],
        fallbacks=labels,
        sensitivities=sensitivities,
        bytes_before=language_model_bytes(bundle),
        bytes_after=language_model_bytes(written),
        num_items=len(gathered.items),
        num_cached=gathered.num_cached,
        seconds=time.perf_counter() - run.started,
        peak_bytes=None if memory is None else memory.peak,
        mixture=mixture,
        limits=limits,
        verification=verification,
    )
    write_output(out / REPORT, as_html(result))
    return result


def _verify(written: Bundle, source: Bundle, settings: Settings, progress: Progress) -> BundleReport | None:
    """Compare the result with its original; None where no comparison was asked for."""
    if not settings.verify_steps:
        return None
    backends = [open_backend("onnxruntime", bundle) for bundle in (written, source)]
    try:
        comparison = compare_bundles(
            backends[0], backends[1], standard_requests(source), steps=settings.verify_steps, progress=progress
        )
    finally:
        for backend in backends:
            backend.close()
    return limit_bundles(comparison, {})


def _precisions(bundle: Bundle) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in language_model_graphs(bundle.model):
        precision = bundle.graphs[name].precision
        counts[precision] = counts.get(precision, 0) + 1
    return counts


def _routing_statistics(bundle: Bundle) -> dict[str, Any]:
    """The manifest's section for `unimoe plan`: which experts the bundle's own examples launch. Empty where the
    manifest has one already, or where the examples need a missing file (a recording of a voice)."""
    if ROUTING_SECTION in bundle.manifest:
        return {}
    try:
        return {ROUTING_SECTION: record_routing(bundle.path)}
    except (BackendError, PromptError):
        return {}
