"""The writer: it resumes from the valid parts of a killed one, one writer at a time, optional sections."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.bundle.small_bundle import finish
from unimoe_runtime.bundle.manifest import GraphInfo, TensorInfo
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.errors import OutputError

ROOT = Path(__file__).parents[3]
# Commits part a, leaves part b half-written, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.writer import BundleParts, BundleWriter
writer = BundleWriter(Path(sys.argv[1]), fingerprint=sys.argv[2])
for part in "ab":
    (writer.directory / part).write_text("content of " + part)
    writer.add_file(part)
    if part == "a":
        writer.commit(part, error=0.5)
with (writer.directory / ".journal").open("a") as journal:
    journal.write('{"part": "b", "fil')
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(target: Path, fingerprint: str = "x") -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(target), fingerprint],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL and not target.exists()


def test_goes_on_where_a_killed_one_stopped(tmp_path: Path) -> None:
    kill_a_writer(tmp_path / "bundle")
    with BundleWriter(tmp_path / "bundle", fingerprint="x") as writer:
        assert writer.resume("a") == {"error": 0.5}
        assert writer.resume("b") is None, "its line was cut off"
        (writer.directory / "b").write_text("b, whole")
        writer.add_file("b")
        writer.commit("b")
        finish(writer)
    assert (tmp_path / "bundle/a").read_text() == "content of a"
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == ["a", "b", "manifest.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_graph_is_taken_up_with_its_signature(tmp_path: Path) -> None:
    info = TensorInfo(name="x", dtype="float32", shape=("N", 3))
    graph = GraphInfo(file="head.onnx", weights="head.safetensors", precision="int8", inputs=(info,), outputs=(info,))
    child = os.fork()
    if not child:  # a writer that is killed
        first = BundleWriter(tmp_path / "bundle", fingerprint="x")
        for file in ("head.onnx", "head.safetensors"):
            (first.directory / file).write_text(file)
        first.add_graph("head", graph)
        first.commit("head")
        os._exit(0)
    os.waitpid(child, 0)
    with BundleWriter(tmp_path / "bundle", fingerprint="x") as second:
        assert second.resume("head") == {}
        finish(second)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert GraphInfo.from_dict(manifest["graphs"]["head"]) == graph and len(manifest["files"]) == 2


@pytest.mark.parametrize("damage", ["content", "length", "gone"])
def test_an_unsound_part_is_written_again(tmp_path: Path, damage: str) -> None:
    kill_a_writer(tmp_path / "bundle")
    part = tmp_path / ".bundle.part" / "a"
    part.unlink() if damage == "gone" else part.write_text("content of e" if damage == "content" else "content")
    with BundleWriter(tmp_path / "bundle", fingerprint="x") as writer:
        assert writer.resume("a") is None


@pytest.mark.parametrize("fingerprint", ["another", None])
def test_something_else_starts_from_nothing(tmp_path: Path, fingerprint: str | None) -> None:
    kill_a_writer(tmp_path / "bundle")
    with BundleWriter(tmp_path / "bundle", fingerprint=fingerprint) as writer:
        assert writer.resume("a") is None and not (writer.directory / "a").exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as first:
        with pytest.raises(OutputError, match="another process is writing it"):
            BundleWriter(tmp_path / "bundle", fingerprint="x")
        with BundleWriter(tmp_path / "other"):
            pass
        finish(first)
    assert (tmp_path / "bundle/manifest.json").exists()


def test_a_writer_killed_between_the_last_renames_loses_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        finish(writer)
    (tmp_path / "bundle").rename(tmp_path / ".bundle.old")
    with pytest.raises(OutputError, match="exists already; pass --force"):
        BundleWriter(tmp_path / "bundle")
    assert (tmp_path / "bundle/manifest.json").exists()


def test_sections(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        with pytest.raises(ValueError, match="'files' is not an optional section"):
            finish(writer, files={})
        finish(writer, quantization={"method": "max"})
    assert '"quantization"' in (tmp_path / "bundle/manifest.json").read_text()
