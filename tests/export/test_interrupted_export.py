"""Exports that are killed, stopped or refused: no incomplete bundle, and the earlier one stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.export.fresh_interpreter import ENCODEC, python
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export import exporter
from unimoe_export.exporter import export_bundle
from unimoe_export.layout import write_graph_weights
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.checkpoint.folder import Checkpoint, open_checkpoint
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.hashes import FileInfo


def kill_export(checkpoint: Path, bundle: Path, part: str, **options: object) -> None:
    """Export in a new process, which kills itself before the given part of the bundle."""
    code = (
        "import json, os, signal, sys\n"
        "from unimoe_export.exporter import export_bundle\n"
        "def kill(index, count, name):\n"
        "    if name == sys.argv[3]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_bundle(sys.argv[1], sys.argv[2], progress=kill, **json.loads(sys.argv[4]))"
    )
    assert python(code, checkpoint, bundle, part, json.dumps(options)).returncode == -signal.SIGKILL


@pytest.mark.parametrize("part", ["layers.1.expert.2", "codec"])
def test_killed_export_goes_on_where_it_stopped(checkpoint: Path, tmp_path: Path, part: str) -> None:
    size = json.loads((ENCODEC / "config.json").read_text())["codebook_size"]
    shutil.rmtree(checkpoint)
    write_random_checkpoint(checkpoint, tiny_config(codebook_size=size))
    shutil.copytree(ENCODEC, checkpoint / "codec")
    kill_export(checkpoint, tmp_path / "bundle", part, precision="bfloat16")
    hidden = tmp_path / ".bundle.part"
    written = {file: file.stat().st_ino for file in sorted(hidden.rglob("*.safetensors"))}
    assert len(written) >= 8
    damaged = hidden / "layers/00/expert_1.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")

    export_bundle(checkpoint, tmp_path / "whole", precision="bfloat16")
    calls: list[str] = []

    def counted(path: Path, source: Checkpoint, graph: str, precision: str) -> FileInfo:
        calls.append(graph)
        return write_graph_weights(path, source, graph, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "write_graph_weights", counted)
        result = export_bundle(checkpoint, tmp_path / "bundle", precision="bfloat16")
    after = {"layers.1.expert.2": {"layers.1.expert.2", "layers.1.expert.3", "head"}, "codec": set[str]()}
    assert set(calls) == {"layers.0.expert.1"} | after[part]
    assert result.largest_error is not None and 0 < result.largest_error < 1e-5
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest == open_bundle(tmp_path / "whole").manifest
    assert len(list(bundle.check_all())) == len(bundle.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint", "whole"]


def test_other_checkpoint_or_options_start_over(checkpoint: Path) -> None:
    """Weights of the same names and shapes, written later, are another checkpoint; a bundle in the folder is not."""

    def fingerprint(precision: str = "float32") -> str:
        return exporter.fingerprint_of(open_checkpoint(checkpoint), None, precision, True, checkpoint / "bundle")

    before = fingerprint()
    for folder in ("bundle", ".bundle.part"):
        (checkpoint / folder).mkdir()
        (checkpoint / folder / "head.onnx").touch()
    assert before == fingerprint() != fingerprint("float16")
    os.utime(checkpoint / "model.safetensors", (1, 1))
    assert before != fingerprint()


def test_existing_targets(checkpoint: Path, tmp_path: Path) -> None:
    bundle, other = tmp_path / "bundle", tmp_path / "other"
    export_bundle(checkpoint, bundle)
    with pytest.raises(OutputError, match="exists already; pass --force"):
        export_bundle(checkpoint, bundle)
    export_bundle(checkpoint, bundle, replace=True)
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="it is not a bundle"):
        export_bundle(checkpoint, other, replace=True)
    assert (other / "thesis.txt").read_text() == "precious"


def test_unwritable_place(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written here"):
        export_bundle(checkpoint, tmp_path / "file" / "bundle")


def test_interrupted_export_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(index: int, count: int, name: str) -> None:
        if name == "embeddings":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, tmp_path / "bundle", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_killed_export_leaves_the_bundle_that_was_there(checkpoint: Path, tmp_path: Path) -> None:
    kill_export(checkpoint, tmp_path / "fresh", "manifest", replace=True)
    assert not (tmp_path / "fresh").exists()
    export_bundle(checkpoint, tmp_path / "old")
    kill_export(checkpoint, tmp_path / "old", "manifest", replace=True)
    assert len(list(open_bundle(tmp_path / "old").check_all())) > 10


@pytest.mark.slow
def test_full_disk_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """A file-size limit makes a write fail half-way, as a full disk does."""
    code = (
        "import resource, sys\n"
        "from unimoe.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "sys.argv = ['unimoe', 'export', *sys.argv[1:]]\n"
        "main()"
    )
    result = python(code, checkpoint, tmp_path / "bundle")
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line == f"unimoe: {tmp_path / 'bundle'}: could not be written (File too large); nothing was left behind"
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
