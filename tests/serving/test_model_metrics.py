"""Metrics of shared steps and of the experts' memory."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime import SynthesisRequest
from unimoe_serving.config import BundleSource
from unimoe_serving.model_metrics import ModelMetrics
from unimoe_serving.models import ModelRegistry


def test_steps_and_cache(tiny_bundle: Path) -> None:
    sources = [
        BundleSource(name="free", path=tiny_bundle),
        BundleSource(name="small", path=tiny_bundle, memory_budget_bytes=50_000),
    ]
    registry = ModelRegistry(sources)
    metrics = ModelMetrics(registry)
    assert all(not family.samples for family in metrics.collect())
    for model in registry:
        model.load()
    before = read(metrics)
    outcome = registry.find("small").synthesizer.synthesize(SynthesisRequest(text="Hello.", voice="ann"))
    after = read(metrics)
    assert after["unimoe_scheduler_steps_total", "small"] - before["unimoe_scheduler_steps_total", "small"] == (
        outcome.routing.steps
    )
    assert after["unimoe_scheduler_steps_total", "free"] == before["unimoe_scheduler_steps_total", "free"]
    assert after["unimoe_expert_cache_uses_total", "small"] > before["unimoe_expert_cache_uses_total", "small"]
    assert 0 < after["unimoe_expert_cache_peak_bytes", "small"] <= 50_000
    assert ("unimoe_expert_cache_uses_total", "free") not in after
    assert after["unimoe_scheduler_lanes", "small"] == 1
    registry.close()


def read(metrics: ModelMetrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels["model"]): sample.value for family in metrics.collect() for sample in family.samples
    }
