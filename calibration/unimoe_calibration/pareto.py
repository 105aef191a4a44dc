"""The chart of a search: loss over bytes."""

from __future__ import annotations

from pathlib import Path

from .search import Mixture, MixtureLimits, Point


def draw_pareto(mixture: Mixture, limits: MixtureLimits, path: Path) -> None:
    """A PNG: the line of mixtures, measured and predicted, the chosen mixture, and the limits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    megabytes = [point.num_bytes / 1e6 for point in mixture.curve]
    axes.plot(megabytes, [point.loss or 0.0 for point in mixture.curve], "o-", label="measured")
    axes.plot(megabytes, [point.predicted_loss for point in mixture.curve], "--", label="sum of the graphs' own")
    chosen = mixture.point
    axes.plot([chosen.num_bytes / 1e6], [chosen.loss or 0.0], "*", markersize=16, label=_words(chosen))
    if limits.max_bytes is not None:
        axes.axvline(limits.max_bytes / 1e6, linestyle=":", color="grey", label="limit of bytes")
    if limits.max_loss is not None:
        axes.axhline(limits.max_loss, linestyle=":", color="grey", label="limit of loss")
    # Linear below the smallest loss that is above 0, so that the chart shows the lossless end.
    losses = [point.loss for point in mixture.curve if point.loss]
    axes.set_yscale("symlog", linthresh=min(losses, default=1e-6))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("language model's graphs, MB")
    axes.set_ylabel("divergence of the answers, nats")
    axes.grid(alpha=0.3)
    axes.legend()
    # Without version and date, the same search gives the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _words(point: Point) -> str:
    latency = "" if point.latency_ms is None else f", {point.latency_ms:.3g} ms a step"
    return f"chosen: {point.num_bytes / 1e6:.3g} MB{latency}"
