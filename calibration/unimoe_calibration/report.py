"""The page of a calibration: verdict, coverage, products, flips, the mixture, fallbacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unimoe_runtime.hardware.precisions import scheme_precision, shown_precision
from unimoe_tools.pages.charts import count_map, line
from unimoe_tools.pages.svg import Axes, figure, legend, tag
from unimoe_tools.pages.template import cards, figure_box, notes, page, section, table, verdict
from unimoe_tools.parity.ratios import CONFIDENCE
from unimoe_tools.units import count, duration, number, percent, size

from .result import CalibrationResult
from .search import Mixture, MixtureLimits

_MEASURED, _PREDICTED, _CHOSEN = "#3f6fb5", "#9aa7b5", "#c8503f"


def as_html(result: CalibrationResult) -> str:
    """The page of a result."""
    lead = (
        f"{result.source} for {result.settings.target}: {scheme_precision(result.scheme)}, method "
        f"{result.settings.method}, {count(result.num_items, 'item')} of data, {duration(result.seconds)}"
    )
    body = [
        *_verdict(result),
        cards(_figures(result)),
        notes(f"WARNING: {warning}" for warning in result.warnings),
        section("Coverage", *_coverage(result)),
        section("Verification", *_verification(result)),
        section("Mixture", *_mixture(result)),
        section("What each graph costs", *_sensitivities(result)),
        section("Products", *_products(result)),
        section("Fallbacks", *_fallbacks(result)),
    ]
    return page(f"Calibration of {result.path.name}", lead, body)


def _verdict(result: CalibrationResult) -> Iterator[str]:
    if result.verification is not None:
        passed = result.verification.passed
        failed = ", ".join(one.name for one in result.verification.figures if not one.passed)
        words = "Within the limits of its original." if passed else f"NOT within the limits of its original: {failed}."
        yield verdict(words, passed=passed)


def _figures(result: CalibrationResult) -> Iterator[tuple[str, str, str]]:
    saved = 1 - result.bytes_after / result.bytes_before
    precisions = ", ".join(f"{number} {shown_precision(name)}" for name, number in sorted(result.precisions.items()))
    yield "language model", size(result.bytes_after), f"{size(result.bytes_before)} before, {percent(saved, 0)} less"
    yield "graphs", str(sum(result.precisions.values())), precisions
    below = len(result.coverage.below())
    floor = f"floor of {count(result.coverage.floor, 'token')} an expert"
    yield "experts below the floor", str(below), floor
    if result.verification is not None:
        forced, step = result.verification.comparison.forced, result.verification.comparison.step
        yield "router agreement", percent(forced.router_agreement, 2), f"of {forced.num_tokens:,} forced tokens"
        yield "divergence", f"{number(forced.kl_nats)} nats", "mean of what codes are drawn from"
        low, high = 1 / step.high, 1 / step.low
        interval = f"{percent(CONFIDENCE, 0)} interval {low:.2f}–{high:.2f}: {step.verdict}"
        yield "speed", f"{1 / step.ratio:.2f} ×", f"steps in turns; {interval}"


def _coverage(result: CalibrationResult) -> Iterator[str]:
    coverage = result.coverage
    names = [*map(str, range(coverage.num_routed)), *["null"] * (coverage.total.shape[1] - coverage.num_routed)]
    parts = {"all data": coverage.total, **(coverage.picks if len(coverage.picks) > 1 else {})}
    for name, picks in parts.items():
        tokens = coverage.num_tokens.get(name, sum(coverage.num_tokens.values()))
        low = list(coverage.below()) if name == "all data" else []
        drawn = count_map(picks.tolist(), columns=names, row_name="layer", low=low)
        yield figure_box(
            f"{name}: {tokens:,} tokens",
            f'<div class="natural">{drawn}</div>',
            f"Tokens that each expert received. Framed: fewer than the floor, {coverage.floor:,}.",
        )


def _verification(result: CalibrationResult) -> Iterator[str]:
    if result.verification is None:
        return
    rows = [
        [one.name, f"{one.value:.4g}", one.interval, one.bound, one.verdict, one.explanation]
        for one in result.verification.figures
    ]
    titles = ("figure", "value", "interval", "limit", "", "of what")
    yield figure_box(
        "The quantized bundle beside its original",
        table(titles, rows, words=(5,)),
        f"{count(result.settings.verify_steps, 'step')} of each sample request. Intervals are bootstrap intervals over "
        "the requests at 95 %; that of the speed over blocks of steps at 99 %.",
    )


def _mixture(result: CalibrationResult) -> Iterator[str]:
    if result.mixture is None:
        return
    mixture = result.mixture
    chosen: dict[str, int] = {}
    for scheme in mixture.choice.values():
        chosen[scheme_precision(scheme)] = chosen.get(scheme_precision(scheme), 0) + 1
    words = ", ".join(f"{number} graphs in {name}" for name, number in sorted(chosen.items()))
    point = mixture.point
    latency = "" if point.latency_ms is None else f", {number(point.latency_ms)} ms a step"
    loss = "not measured" if point.loss is None else f"{number(point.loss)} nats"
    yield figure_box(
        f"Loss over size: {size(point.num_bytes)}{latency}, loss {loss}",
        _pareto(mixture, result.limits),
        f"{words}. Points are measured mixtures on the line of least loss; dashed sums the graphs' own losses.",
    )


def _pareto(mixture: Mixture, limits: MixtureLimits) -> str:
    megabytes = [one.num_bytes / 1e6 for one in mixture.curve]
    losses = [one.loss or 0.0 for one in mixture.curve]
    predicted = [one.predicted_loss for one in mixture.curve]
    top = 1.1 * max(*losses, *predicted, limits.max_loss or 0.0) or 1.0
    ends = (min(megabytes), max(megabytes), *([limits.max_bytes / 1e6] if limits.max_bytes else []))
    axes = Axes(x0=0.95 * min(ends), x1=1.02 * max(ends), top=top, height=260, labels=("MB", "nats"))
    axes.parts.append(line(axes, megabytes, predicted, _PREDICTED, "predicted", dashed=True))
    axes.parts.append(line(axes, megabytes, losses, _MEASURED, "measured"))
    point = mixture.point
    at = axes.x(point.num_bytes / 1e6), axes.y(min(point.loss or 0.0, top))
    axes.parts.append(tag("circle", tag("title", "chosen"), cx=at[0], cy=at[1], r=8, fill=_CHOSEN))
    if limits.max_bytes is not None:
        axes.vertical(limits.max_bytes / 1e6, f"limit {size(limits.max_bytes)}")
    if limits.max_loss is not None:
        axes.horizontal(limits.max_loss, f"limit {number(limits.max_loss)} nats")
    colours = {"measured": _MEASURED, "sum of the graphs' own": _PREDICTED, "chosen": _CHOSEN}
    return legend(colours) + figure(axes.parts, axes.height, "loss over bytes")


def _sensitivities(result: CalibrationResult) -> Iterator[str]:
    if not result.sensitivities:
        return
    rows = [
        [
            one.graph, scheme_precision(one.scheme), f"{one.loss:.5f}", f"{one.router_flips:,}",
            percent(one.divergence.token_agreement), _chosen(result, one.graph),
        ]
        for one in sorted(result.sensitivities, key=lambda one: -one.loss)
    ]  # fmt: skip
    titles = ("graph", "as", "loss, nats", "routing decisions flipped", "tokens equal", "chosen")
    yield figure_box(
        "Each graph quantized alone, the costliest first",
        table(titles, rows, words=(1, 5)),
        "Loss: mean divergence of what codes are drawn from, with this graph alone quantized and all others in fp32. "
        f"Flips: of {result.num_decisions:,} routing decisions (token, layer, expert).",
    )


def _chosen(result: CalibrationResult, graph: str) -> str:
    if result.mixture is not None:
        return scheme_precision(result.mixture.choice[graph])
    schemes = {str(one["scheme"]) for name, one in result.products.items() if name.startswith(f"{graph}/")}
    return "+".join(sorted(scheme_precision(scheme) for scheme in schemes))


def _products(result: CalibrationResult) -> Iterator[str]:
    flips = {one.graph: one.router_flips for one in result.sensitivities}
    rows = [_product_row(name, one, flips) for name, one in result.products.items()]
    titles = ("product", "precision", "inputs", "method", "range", "smoothing", "output error", "rows", "graph flips")
    yield figure_box(
        count(len(rows), "product"),
        table(titles, rows, words=(1, 2, 3)),
        "Range: the absolute value that the largest code of an input stands for. Output error: root mean square, as a "
        "share of the outputs', on the rows kept; a dash where the mixture chose another precision. Graph flips: "
        "routing decisions that the product's graph changes when it is quantized alone.",
    )


def _product_row(name: str, one: object, flips: object) -> Sequence[str]:
    assert isinstance(one, dict) and isinstance(flips, dict)
    graph = name.partition("/")[0]
    limit, error = one["input_range"], one["error"]
    return [
        name, scheme_precision(one["scheme"]), shown_precision(one["inputs"]), one["method"] or "–",
        "–" if limit is None else number(limit), f"{one['smoothing_strength']:g}",
        percent(error, 2) if error is not None else "–" if one["rows"] else "no rows", f"{one['rows']:,}",
        f"{flips[graph]:,}" if graph in flips else "–",
    ]  # fmt: skip


def _fallbacks(result: CalibrationResult) -> Iterator[str]:
    if result.fallbacks:
        rows = [[graph, *reason.partition(": ")[::2]] for graph, reason in result.fallbacks.items()]
        yield figure_box(
            f"{count(len(rows), 'graph')} otherwise than asked for",
            table(("graph", "what it gets", "why"), rows, words=(1, 2)),
        )
