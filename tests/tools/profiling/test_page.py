"""The profile of the demo checkpoint's bundle: figures of audio, the command, and its page in a real browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import assert_one_line, run
from unimoe_export.exporter import export_bundle
from unimoe_tools.profiling.page import as_html
from unimoe_tools.profiling.sweep import read_report

pytestmark = pytest.mark.slow  # all need a profile of the demo with every output
DEMO = Path(__file__).parents[3] / "checkpoints" / "demo"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "bundle"
    export_bundle(DEMO, folder)
    return folder


@pytest.fixture(scope="module")
def written(bundle: Path) -> Path:
    """A folder with every file that the command writes."""
    folder = bundle.parent
    outputs = [(f"--{kind}", folder / f"out.{kind}") for kind in ("json", "csv", "markdown", "trace", "html")]
    done = run(
        "profile", bundle, "--threads", "1", "--rows", "2,4", "--steps", "24", "--repetitions", "1", "--kernels",
        *(word for output in outputs for word in output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "step, median ms" in done.stdout and "layers" in done.stdout
    return folder


def test_figures_of_audio(written: Path) -> None:
    report = read_report(written / "out.json")
    for run_, rows in zip(report["runs"], (2, 4), strict=True):
        assert run_["setting"]["rows"] == rows
        assert set(run_["tasks"]) == {"speech", "music"}
        for one in run_["generations"]:
            # 24 steps make 21 frames of 20 ms each: the last codebook comes three steps late.
            assert one["steps"] == 24 and one["frames"] == 21 * rows / 2
            assert one["audio_s"] == pytest.approx(21 * 0.02 * rows / 2)
            assert one["rtf"] == pytest.approx(one["compute_ms"] / 1e3 / one["audio_s"])
            assert one["ttfa_steps"] == 2 + 3
            assert sum(chunk["frames"] for chunk in one["chunks"]) == one["frames"]
            assert one["prepare_ms"] + one["prefill_ms"] < one["ttfa_ms"] < one["compute_ms"] * 1.5
        # A process that is preempted between two marks leaves a gap. The benchmark has the bound for quiet machines.
        assert run_["coverage"] > 0.9
    table = list(csv.DictReader((written / "out.csv").open()))
    assert [row["rows"] for row in table] == ["2", "4"] and float(table[0]["rtf"]) > 0
    assert (
        "| real" not in (written / "out.markdown").read_text() and "× floor" in (written / "out.markdown").read_text()
    )
    trace = json.loads((written / "out.trace").read_text())
    assert len({event["pid"] for event in trace["traceEvents"]}) == 2


def test_page_is_small_and_asks_the_network_for_nothing(written: Path) -> None:
    page = (written / "out.html").read_text()
    assert len(page.encode()) < 2_000_000
    outside = re.findall(r"(?:src|href)=|url\(|@import|<script|<link|https?://(?!www\.w3\.org/2000/svg)", page)
    assert not outside
    for title in ("Step by step: speech", "How long a step takes", "Layer by layer", "Experts by domain", "Memory"):
        assert title in page
    machine = page.partition("<h2>Machine</h2>")[2]
    assert "memory</td><td>" in machine and " GB</td>" in machine and "bytes" not in machine


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page was not looked at in a browser")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_in_chromium(written: Path, tmp_path: Path, width: int) -> None:
    """Every drawing has a size, no element is wider than the window, and the page requests nothing."""
    found = look_at((written / "out.html").read_text(), tmp_path, width)
    assert found["requests"] == 0
    assert found["drawings"] >= 2 * 8 and found["empty"] == 0
    assert found["overflow"] <= 0


def look_at(page: str, folder: Path, width: int) -> dict[str, Any]:
    """The layout of a page in a browser of the given width, reported by a script that only this test adds."""
    script = """<script>addEventListener("load", () => {
      const drawings = [...document.querySelectorAll("svg")], root = document.documentElement;
      document.title = JSON.stringify({
        requests: performance.getEntriesByType("resource").length,
        drawings: drawings.length,
        empty: drawings.filter(each => each.getBoundingClientRect().height < 20).length,
        overflow: root.scrollWidth - root.clientWidth})})</script>"""
    (folder / "page.html").write_text(page.replace("</body>", script + "</body>"))
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser",
         f"--window-size={width},900", "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found: dict[str, Any] = json.loads(title[1])
    return found


def test_what_a_bundle_says_is_escaped(written: Path) -> None:
    report = read_report(written / "out.json")
    report["runs"][0]["bundle"]["name"] = "<script>alert(1)</script>"
    report["runs"][0]["timeline"][0]["caption"] = "<b>&"
    assert "<script" not in as_html(report) and "<b>" not in as_html(report)


def test_bad_input_gives_one_line(bundle: Path, tmp_path: Path) -> None:
    assert_one_line(run("profile", tmp_path), "not a bundle")
    assert_one_line(run("profile", bundle, "--task", "singing"), "has no task")
    assert_one_line(run("profile", bundle, "--text", "hello"), "one task")
    assert_one_line(run("profile", bundle, "--rows", "3", "--warmup", "0"), "rows is 3")
    assert_one_line(run("profile", bundle, "--html", tmp_path / "no" / "page.html"), "cannot be written")
    assert run("profile", bundle, "--threads", "none").returncode == 2
    assert run("profile").returncode == 2
    assert not list(tmp_path.iterdir())
