"""Models, health and metrics."""

from __future__ import annotations

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.serving.running import RunningServer, running_server


def test_models(server: RunningServer) -> None:
    models = json.loads(server.ask("GET", "/v1/models")[2])["data"]
    assert [model["id"] for model in models] == ["tiny"] and models[0]["tasks"] == ["speech", "music"]
    assert json.loads(server.ask("GET", "/v1/models/tiny")[2]) == models[0]
    assert server.refuses("GET", "/v1/models/other").code == "model_not_found"


def test_two_bundles_by_name(tiny_bundle: Path, public_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle, "public": public_bundle}) as server:
        models = json.loads(server.ask("GET", "/v1/models")[2])["data"]
        assert [(model["id"], model["clones"]) for model in models] == [("tiny", False), ("public", True)]
        music = {"input": "calm", "max_seconds": 0.1, "response_format": "wav"}
        for model in ("public", "tiny"):
            asked = {**music, "model": model, **({"input": "C4 E4"} if model == "tiny" else {})}
            assert server.ask("POST", "/v1/audio/music", asked)[1]["x-model"] == model
        assert server.metric("streams_ended_total", model="public", task="music") == 1


def test_metrics_add_up(tiny_bundle: Path) -> None:
    """Prometheus reads the figures that the same streams' events report."""
    with running_server({"tiny": tiny_bundle}) as server:
        figures = []
        for seed in range(3):
            body = {"input": "Hello.", "voice": "ann", "seed": seed, "stream_format": "sse"}
            events = server.ask("POST", "/v1/audio/speech", body)[2].split(b"data: ")
            figures.append(json.loads(events[-1])["figures"])
        server.refuses("POST", "/v1/audio/speech", {"input": "Hello.", "voice": "zoe"})
        status, headers, text = server.ask("GET", "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain")
        samples = {
            (sample.name, sample.labels.get("kind", "")): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.labels.get("task", "speech") == "speech"
        }
        assert samples["unimoe_streams_started_total", ""] == server.metric("streams_ended_total") == 3
        assert samples["unimoe_streams_active", ""] == samples["unimoe_slots_taken", ""] == 0
        assert samples["unimoe_steps_total", ""] == sum(figure["steps"] for figure in figures)
        assert abs(samples["unimoe_audio_seconds_total", ""] - sum(figure["audio_s"] for figure in figures)) < 1e-9
        launched = sum(figure["experts_per_step"] * figure["steps"] for figure in figures)
        assert abs(samples["unimoe_experts_launched_total", ""] - launched) < 1e-6
        null = samples["unimoe_expert_picks_total", "null"]
        shares = [figure["null_share"] for figure in figures]
        assert min(shares) <= null / (null + samples["unimoe_expert_picks_total", "routed"]) <= max(shares)
        assert samples["unimoe_first_audio_seconds_count", ""] == samples["unimoe_real_time_factor_count", ""] == 3
        assert samples["unimoe_ready", ""] == 1
