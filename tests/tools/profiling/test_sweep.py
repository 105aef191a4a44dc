"""Profiling: what is recorded is what runs, its parts add up, and nothing of the model's answer changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError, BundleError, ConfigError, OutputError
from unimoe_runtime.model.generation import Prompt, collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.pages.output import require_writable, write_output
from unimoe_tools.profiling import report as reports
from unimoe_tools.profiling.breakdown import DECODE_PARTS, MODEL_PARTS, Routing, break_down
from unimoe_tools.profiling.floor import compare_with_floor, step_bytes, weight_bytes
from unimoe_tools.profiling.machine import Energy, read_device_bytes
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.playback import play
from unimoe_tools.profiling.record import describe_setting
from unimoe_tools.profiling.recorder import Marks, Part, RecordedModel, Recorder, code
from unimoe_tools.profiling.sweep import profile, read_report
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import ProfileRequest, Setting, batched, make_requests

SAMPLING = SamplingConfig(min_steps=21, max_steps=21, top_k=None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a language model alone: no front end, no codec."""
    folder = tmp_path_factory.mktemp("profiling")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "tiny")
    return folder / "tiny"


def setting(bundle: Path, **changes: object) -> Setting:
    fields: dict[str, object] = {"requests": (ProfileRequest(task="random"),), "steps": 20, "threads": 1}
    return Setting(bundle=str(bundle), **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["numpy", "onnxruntime"])
def test_a_recorded_model_makes_the_same_codes_and_tells_every_call(tiny: Path, name: str) -> None:
    backend = open_backend(name, open_bundle(tiny))
    config, prompt = backend.bundle.model, Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    plain = BundleModel(backend)
    recorder = Recorder()
    recorded = RecordedModel(backend, recorder)
    expected, found = (
        collect_frames(generate(model, prompt, config, SAMPLING, seed=3))[0] for model in (plain, recorded)
    )
    np.testing.assert_array_equal(found, expected)
    assert recorded.statistics == plain.statistics

    recorder.mark(code(Part.END))
    marks = recorder.marks()
    assert (np.diff(marks.start_ns_M) >= 0).all()
    breakdown = break_down(marks, config)
    routing = Routing.from_marks(marks, recorder.picks(), config, num_rows=2)
    assert len(breakdown.parts_SP) == routing.num_steps == plain.statistics.steps == 20
    assert breakdown.launches_LR.sum() == routing.launched_SLR.sum() == plain.statistics.launched
    np.testing.assert_array_equal(breakdown.launches_LR, routing.launched_SLR.sum(axis=0))
    assert routing.routed_picks_SL.sum() == plain.statistics.routed_picks
    assert routing.null_picks_SL.sum() == plain.statistics.null_picks
    trunks = marks.part_M == Part.TRUNK
    assert trunks.sum() == 21 * config.num_layers
    assert set(marks.layer_M[trunks]) == set(range(config.num_layers))


def test_marks_become_milliseconds_by_step_layer_and_expert() -> None:
    config = tiny_config()
    listed = [
        (0, Part.PREFILL, -1, -1),
        (5, Part.INPUTS, -1, -1),
        (7, Part.TRUNK, 0, -1),
        (10, Part.READ_BACK, 0, -1),
        (11, Part.DISPATCH, 0, -1),
        (12, Part.EXPERT, 0, 2),
        (16, Part.DISPATCH, 0, -1),
        (17, Part.HEAD, -1, -1),
        (18, Part.SAMPLING, -1, -1),
        (20, Part.HOST, -1, -1),
        (21, Part.PROFILER, -1, -1),
        (31, Part.INPUTS, -1, -1),
        (32, Part.CODEC, -1, -1),
        (40, Part.END, -1, -1),
    ]
    times, parts, layers, experts = (np.array(column) for column in zip(*listed, strict=True))
    found = break_down(Marks(start_ns_M=times * 10**6, part_M=parts, layer_M=layers, expert_M=experts), config)
    assert found.prefill_ms == 5
    assert found.step_ms_S.tolist() == [15, 1]
    assert found.decode_ms == 15 + 1 + 1 + 8
    assert found.parts_SP[0, [Part.DISPATCH, Part.EXPERT, Part.PROFILER]].tolist() == [2, 4, 10]
    assert found.layers_LP[0, [Part.TRUNK, Part.READ_BACK]].tolist() == [3, 1]
    assert found.experts_LR[0].tolist() == [0, 0, 4, 0] and found.launches_LR.sum() == 1


def test_parts_add_up_to_the_wall_time(tiny: Path) -> None:
    meter = Meter(setting(tiny, threads=None, backend="numpy", every=1))
    meter.measure(ProfileRequest(task="random"))
    generation = meter.measure(ProfileRequest(task="random"))
    assert 0.9 < generation.coverage <= 1.0  # the bound for quiet machines is the benchmark's
    assert generation.num_steps == 20 and generation.num_frames_U == (19,)
    assert generation.breakdown.decode_ms == pytest.approx(generation.breakdown.parts_SP[:, list(DECODE_PARTS)].sum())


def test_a_few_steps_stand_for_all(tiny: Path) -> None:
    """Every fifth step is recorded call by call, another one each time; the codes are those of a plain run."""
    backend = open_backend("numpy", open_bundle(tiny))
    config, prompt = backend.bundle.model, Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    recorder = Recorder()
    recorded, plain = RecordedModel(backend, recorder, every=5, phase=3), BundleModel(backend)
    found, expected = (
        collect_frames(generate(model, prompt, config, SAMPLING, seed=3))[0] for model in (recorded, plain)
    )
    np.testing.assert_array_equal(found, expected)
    assert recorded.statistics == plain.statistics
    recorder.mark(code(Part.END))
    marks = recorder.marks()
    breakdown = break_down(marks, config)
    assert np.flatnonzero(breakdown.detailed_S).tolist() == [3, 8, 13, 18]
    assert (breakdown.parts_SP[breakdown.detailed_S][:, Part.TRUNK] > 0).all()
    assert not breakdown.parts_SP[~breakdown.detailed_S][:, MODEL_PARTS].any()
    assert (breakdown.step_ms_S > breakdown.model_ms_S).all() and (breakdown.model_ms_S > 0).all()
    routing = Routing.from_marks(marks, recorder.picks(), config, num_rows=2)
    assert routing.num_steps == 4
    assert ((routing.routed_picks_SL + routing.null_picks_SL) >= 2).all(), "each row picks"
    assert (routing.routed_picks_SL >= routing.launched_SLR.sum(axis=2)).all()

    meter = Meter(setting(tiny, threads=None, backend="numpy"))
    generations = [meter.measure(ProfileRequest(task="random")) for _ in range(3)]
    assert [int(np.argmax(one.breakdown.detailed_S)) for one in generations] == [0, 1, 2]
    described = describe_setting(meter.bundle, generations, reads_bytes_per_s=[1e10], reads_model_bytes_per_s=[1e10])
    assert described["recording"]["steps"] == 12 and described["step"]["count"] == 60
    step_ms = sum(part["ms_a_step"] for name, part in described["parts"].items() if name not in ("codec", "host"))
    assert step_ms == pytest.approx(described["step"]["mean_ms"]), "parts are scaled to all steps"
    experts_ms = sum(layer["expert_ms"] for layer in described["layers"])
    assert experts_ms == pytest.approx(described["parts"]["expert"]["ms_a_step"])


def test_routing_counts_rows_apart_and_together() -> None:
    """Two rows, one layer, two experts: both rows pick 0, one of them null as well; then one picks 0, the other 1."""
    config = tiny_config(num_layers=1, num_routed_experts=2)
    parts = np.array(
        [Part.PREFILL, Part.EXPERT, Part.INPUTS, Part.EXPERT, Part.INPUTS, Part.EXPERT, Part.EXPERT, Part.END]
    )
    experts = np.array([-1, 1, -1, 0, -1, 0, 1, -1])
    marks = Marks(start_ns_M=np.arange(8), part_M=parts, layer_M=np.minimum(experts, 0), expert_M=experts)
    routing = Routing.from_marks(marks, np.array([[2, 1], [2, 0]]), config, num_rows=2)
    assert routing.launched_mean_L().tolist() == [1.5]
    assert routing.picked_a_row_L().tolist() == [1.0]
    assert routing.launched_histogram_L() == [[0, 1, 1]]
    assert routing.null_share_L().tolist() == [0.2] and routing.null_share() == 0.2
    assert routing.launch_share_LR().tolist() == [[1.0, 0.5]]
    assert routing.join(routing).num_steps == 4


def test_playback_finds_underruns() -> None:
    smooth = play([(100, 80), (150, 160), (300, 320)])
    assert smooth is not None and (smooth.first_ms, smooth.underruns, smooth.slack_ms) == (100, 0, 30)
    # The second chunk comes 20 ms late and moves all that follows; the third is late by 40 after that.
    late = play([(0, 0), (100, 80), (200, 100), (340, 100), (341, 0)])
    assert late is not None and (late.first_ms, late.underruns, late.stalled_ms) == (100, 2, 60)
    assert play([(5, 0)]) is None


def test_energy_is_that_of_the_packages(tmp_path: Path) -> None:
    def write(zone: str, name: str, energy_uj: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        for file, content in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", 10_000_000)):
            (tmp_path / zone / file).write_text(f"{content}\n")

    assert Energy(tmp_path).joules() is None, "a machine that does not tell"
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys")):
        write(zone, name, 9_000_000)
    energy = Energy(tmp_path)
    write("intel-rapl:0", "package-0", 1_000_000)  # the counter went round
    assert energy.joules() == 2.0


def test_device_memory_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_device_bytes() is None, "a machine without nvidia-smi"
    smi = tmp_path / "nvidia-smi"
    for rows, expected in (
        (f"{os.getpid()}, 100\n1, 7\n{os.getpid()}, 20", 120 << 20),
        ("1, 7", None),
        (f"{os.getpid()}, [N/A]", None),
    ):
        smi.write_text(f"#!/bin/sh\nprintf '%s\\n' '{rows}'\n")
        smi.chmod(0o755)
        assert read_device_bytes() == expected


def test_floor_counts_what_ran(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    launches_LR = np.zeros((2, 4))
    launches_LR[0, 1] = 0.5
    bytes_by_part, bytes_L = step_bytes(bundle, launches_a_step_LR=launches_LR, rows=2, cached=10)
    expert = weight_bytes(bundle, "layers.0.expert.1")
    assert expert == 4 * 3 * 16 * 12
    cache = 2 * 10 * 2 * 2 * 8 * 4
    trunks = [weight_bytes(bundle, f"layers.{layer}.trunk") + cache for layer in range(2)]
    assert bytes_by_part["expert"] == expert / 2
    assert bytes_by_part["trunk"] == sum(trunks)
    assert bytes_L.tolist() == [trunks[0] + expert / 2, trunks[1]]
    floor = compare_with_floor({"trunk": 2e6, "head": 1e6}, {"trunk": 3.0, "head": 1.5}, 5.0, 1e9)
    assert floor["floor_ms"] == 3.0 and floor["ratio"] == pytest.approx(5 / 3)
    assert [floor["parts"][name]["far"] for name in ("trunk", "head")] == [False, False]
    assert compare_with_floor({"trunk": 1e6}, {"trunk": 2.1}, 5.0, 1e9)["parts"]["trunk"]["far"]


def test_batches_repeat_an_utterance() -> None:
    prompt = Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    four = batched(prompt, 4)
    assert four.num_utterances == 2
    np.testing.assert_array_equal(four.text_ids_BT[2:], prompt.text_ids_BT)
    with pytest.raises(ConfigError, match="rows is 3"):
        batched(prompt, 3)


def test_settings_in_processes_of_their_own(tiny: Path, tmp_path: Path) -> None:
    """Two settings and the engine's own profiler, through to the report's files."""
    seen: list[str] = []
    report, events = profile(
        [setting(tiny), setting(tiny, rows=1)], warmup=1, repetitions=2, kernels=True, trace=True,
        progress=lambda label, done, total: seen.append(f"{done}/{total}"),
    )  # fmt: skip
    assert seen == [f"{done}/10" for done in range(10)]
    first, second = report["runs"]
    assert first["step"]["count"] == 40 and len(first["generations"]) == 2
    assert first["coverage"] > 0.9
    assert sum(part["share"] for part in first["parts"].values()) == pytest.approx(1)
    assert first["generations"][0]["ttfa_steps"] == 3  # two frames, and a step more for the delay
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
    assert not [item for item in tmp_path.iterdir() if item != path], "nothing temporary stays"
    check_trace(events)


def test_a_memory_budget_says_how_it_fared(tiny: Path) -> None:
    report, _ = profile([setting(tiny, memory_budget_bytes=1_500_000)], warmup=0, repetitions=1)
    (run,) = report["runs"]
    found = run["residency"]
    assert found["misses"] <= found["uses"] and found["budget_bytes"] == 1_500_000
    assert found["uses"] >= run["step"]["count"], "each step uses an expert or more"
    assert any("calls found theirs there" in note for note in run["notes"])


def check_trace(events: list[dict[str, Any]]) -> None:
    """By the rules of the trace event format: complete events with numbers for their times, which lie within each other
    on each track, of processes and threads that have names. And kernels lie within the part that ran them."""
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


def test_errors_are_one_line(tiny: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny)
    with pytest.raises(BundleError, match="not a bundle"):
        Worker(setting(tmp_path))
    with pytest.raises(ConfigError, match="steps is 1"):
        Meter(setting(tiny, threads=None, steps=1)).measure(ProfileRequest(task="random"))
    with pytest.raises(ConfigError, match="no front end"):
        make_requests(bundle, tasks=("speech",))
    with pytest.raises(ConfigError, match="chunk frames"):
        setting(tiny, chunk_frames=())
    with pytest.raises(ConfigError, match="nothing to run"):
        setting(tiny, requests=())
    with pytest.raises(ConfigError, match="repetition"):
        profile([setting(tiny)], repetitions=0)
    with pytest.raises(OutputError, match="cannot be written"):
        write_output(tmp_path / "no" / "report.json", "")
    with pytest.raises(OutputError, match="cannot be written"):
        require_writable(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "missing.json"):
        with pytest.raises(ConfigError, match="profile"):
            read_report(tmp_path / name)


def test_a_measuring_process_that_dies_is_told(tiny: Path) -> None:
    with Worker(setting(tiny)) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="ended with code -9"):
            worker.repeat()
    worker.close()
