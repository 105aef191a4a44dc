"""Metrics of each bundle for Prometheus: its shared steps, and its expert cache."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from unimoe_serving.models import ModelRegistry

_STEPS = {
    "steps": ("steps", "Decode steps, each for all streams that wait."),
    "step_streams": ("streams", "Streams, summed over the steps."),
    "step_rows": ("rows", "Rows, summed over the steps."),
    "step_experts": ("launched", "Routed experts that ran, summed over the steps."),
    "step_seconds": ("step_s", "Seconds in decode steps."),
    "prompt_positions": ("positions", "Positions of prompts that were read."),
    "prompt_seconds": ("prompt_s", "Seconds in prompts' passes."),
}
_CACHE = {
    "uses": ("uses", "Experts that steps asked for."),
    "misses": ("misses", "Experts that were not in memory then."),
    "stall_seconds": ("stall_s", "Seconds that steps waited for experts."),
}


class ModelMetrics:
    """A collector: reads the ready bundles at each scrape."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """One family for each count, with a sample for each bundle."""
        ready = [model for model in self._models if model.ready]
        for name, (field, about) in _STEPS.items():
            family = CounterMetricFamily(f"unimoe_scheduler_{name}", about, labels=["model"])
            for model in ready:
                family.add_metric([model.name], getattr(model.synthesizer.step_statistics, field))
            yield family
        lanes = GaugeMetricFamily(
            "unimoe_scheduler_lanes", "Decode steps that may run at the same time.", labels=["model"]
        )
        for model in ready:
            lanes.add_metric([model.name], model.synthesizer.backend.lanes)
        yield lanes
        budgeted = [(model.name, stats) for model in ready if (stats := model.synthesizer.residency) is not None]
        for name, (field, about) in _CACHE.items():
            family = CounterMetricFamily(f"unimoe_expert_cache_{name}", about, labels=["model"])
            for model_name, stats in budgeted:
                family.add_metric([model_name], getattr(stats, field))
            yield family
        peak = GaugeMetricFamily(
            "unimoe_expert_cache_peak_bytes", "The most that loaded experts took.", labels=["model"]
        )
        for model_name, stats in budgeted:
            peak.add_metric([model_name], stats.peak_bytes)
        yield peak
