"""Profiling: the record matches the run, its parts add up, and the model's answer does not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tools.profiling.settings import setting
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_tools.output import write_output
from unimoe_tools.profiling import report as reports
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.sweep import profile, read_report
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import ProfileRequest, make_requests


@pytest.mark.slow
def test_settings_in_processes_of_their_own(tiny_bundle: Path, tmp_path: Path) -> None:
    """Two settings and the engine's own profiler, up to the report's files."""
    seen: list[str] = []
    report, events = profile(
        [setting(tiny_bundle), setting(tiny_bundle, rows=1)], warmup=1, repetitions=2, kernels=True, trace=True,
        progress=lambda label, done, total: seen.append(f"{done}/{total}"),
    )  # fmt: skip
    assert seen == [f"{done}/10" for done in range(10)]
    first, second = report["runs"]
    assert first["step"]["count"] == 40 and len(first["generations"]) == 2
    assert first["coverage"] > 0.9
    assert sum(part["share"] for part in first["parts"].values()) == pytest.approx(1)
    assert first["generations"][0]["ttfa_steps"] == 3  # two frames, and one more step for the delay
    assert sum(first["layers"][0]["launched_histogram"]) == first["recording"]["steps"] == 8
    assert second["tasks"]["random"]["picked_a_row"] == pytest.approx(
        sum(layer["launched"] for layer in second["layers"])
    ), "of a single row, what it picked is what ran"
    assert len(first["floor"]["reads_bytes_per_s"]) == 2
    assert first["kernels"]["runs"]["trunk"] <= first["kernels"]["parts"]["trunk"]["ms_a_step"]
    calls = {row["operator"]: row["calls_a_step"] for row in first["kernels"]["operators"] if row["graph"] == "head"}
    assert calls["MatMul"] == 1
    if first["memory"]:  # Linux
        assert first["memory"]["peak_bytes"] >= first["memory"]["anonymous_bytes"] > 0

    path = tmp_path / "report.json"
    write_output(path, reports.as_json(report))
    assert read_report(path) == json.loads(json.dumps(report))
    assert len(reports.as_csv(report).splitlines()) == 3
    markdown = reports.as_markdown(report)
    assert "| step, median ms |" in markdown and "| graph | operator |" in markdown
    check_trace(events)


def test_a_memory_budget_says_how_it_fared(tiny_bundle: Path) -> None:
    report, _ = profile([setting(tiny_bundle, memory_budget_bytes=1_500_000)], warmup=0, repetitions=1)
    (run,) = report["runs"]
    found = run["residency"]
    assert found["misses"] <= found["uses"] and found["budget_bytes"] == 1_500_000
    assert found["uses"] >= run["step"]["count"], "each step uses an expert or more"
    assert any("calls found theirs there" in note for note in run["notes"])


def check_trace(events: list[dict[str, Any]]) -> None:
    """Check a trace against the trace event format.

    Complete events have numeric times and nest on each track; processes and threads have names. Kernels lie within the
    part that ran them."""
    json.dumps(events, allow_nan=False)
    assert {event["ph"] for event in events} == {"X", "M"}
    complete = [event for event in events if event["ph"] == "X"]
    named = {(event["name"], event["pid"], event.get("tid")) for event in events if event["ph"] == "M"}
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in complete:
        assert event["name"] and event["cat"] and event["ts"] >= 0 and event["dur"] >= 0
        assert ("process_name", event["pid"], None) in named and ("thread_name", event["pid"], event["tid"]) in named
        begin, end = round(1e3 * event["ts"]), round(1e3 * (event["ts"] + event["dur"]))
        tracks.setdefault((event["pid"], event["tid"]), []).append((begin, end))
    for spans_ns in tracks.values():
        open_until: list[int] = []
        for begin, end in sorted(spans_ns, key=lambda span: (span[0], -span[1])):
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or end <= open_until[-1], "half inside of another event"
            open_until.append(end)
    assert {"request", "prefill", "step", "trunk", "expert", "kernel", "engine"} <= {event["cat"] for event in complete}
    for process in {event["pid"] for event in complete}:
        spans = {"trunk": [], "engine": []}  # type: dict[str, list[tuple[float, float]]]
        for event in complete:
            graph = event["args"].get("graph", event["name"])
            if event["pid"] == process and event["cat"] in spans and graph == "layers.0.trunk":
                spans[str(event["cat"])].append((event["ts"], event["ts"] + event["dur"]))
        assert len(spans["engine"]) == 20, "the prompt's pass is left to the host's track"
        inside = [any(begin - 20 <= ts and end <= finish + 20 for begin, finish in spans["trunk"])
                  for ts, end in spans["engine"]]  # fmt: skip
        assert np.mean(inside) > 0.9, "the engine's clock was brought to ours"


def test_errors_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(BundleError, match="not a bundle"):
        Worker(setting(tmp_path))
    with pytest.raises(ConfigError, match="steps is 1"):
        Meter(setting(tiny_bundle, threads=None, steps=1)).measure(ProfileRequest(task="random"))
    with pytest.raises(ConfigError, match="no front end"):
        make_requests(bundle, tasks=("speech",))
    with pytest.raises(ConfigError, match="chunk frames"):
        setting(tiny_bundle, chunk_frames=())
    with pytest.raises(ConfigError, match="nothing to run"):
        setting(tiny_bundle, requests=())
    with pytest.raises(ConfigError, match="repetition"):
        profile([setting(tiny_bundle)], repetitions=0)
    (tmp_path / "other.json").write_text("{}")
    for name, told in (("other.json", "not a profile"), ("missing.json", "cannot be read")):
        with pytest.raises(ConfigError, match=told):
            read_report(tmp_path / name)
