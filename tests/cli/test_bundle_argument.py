"""`demo` and `voices` name the bundles of the checkpoints that come with the package."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from unimoe.cli import bundle_argument
from unimoe.cli.bundle_argument import BUNDLE, CHECKPOINT, INCLUDED, included_bundle
from unimoe.cli.tables import as_word
from unimoe_runtime.bundle.reader import MANIFEST
from unimoe_runtime.errors import CheckpointError


def converted(value: str) -> Path:
    path = BUNDLE.convert(value, click.Argument(["bundle"]), None)
    assert isinstance(path, Path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_checkpoint: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bundle_argument, "included_checkpoint", lambda name: reference_checkpoint)
    return tmp_path / "cache"


@pytest.mark.parametrize("name", INCLUDED)
def test_an_included_checkpoint_is_exported_once(name: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = converted(name)
    assert (bundle / MANIFEST).is_file() and cache in bundle.parents
    assert f"exporting {name}" in capsys.readouterr().err
    assert bundle.name == name, "tables and pages show this name"
    made = (bundle / MANIFEST).stat().st_mtime_ns
    assert converted(name) == bundle and (bundle / MANIFEST).stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""
    assert as_word(bundle) == name, "next steps show this name"
    assert as_word(bundle / "layers") == str(bundle / "layers")
    Path(name).mkdir()
    assert as_word(bundle) == str(bundle), "the name means another folder now"


def test_another_checkpoint_is_another_bundle(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = included_bundle("demo")
    other = tmp_path / "other"
    other.mkdir()
    for file in bundle_argument.included_checkpoint("demo").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "README.md").write_text("another card")
    monkeypatch.setattr(bundle_argument, "included_checkpoint", lambda name: other)
    assert included_bundle("demo") != first


def test_a_folder_of_that_name_comes_first(cache: Path) -> None:
    Path("demo").mkdir()
    assert converted("demo") == Path("demo")
    assert converted("build/bundle") == Path("build/bundle")


def test_an_installation_without_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_argument, "__file__", str(tmp_path / "unimoe" / "cli" / "bundle_argument.py"))
    with pytest.raises(CheckpointError, match="no checkpoint of that name"):
        bundle_argument.included_checkpoint("demo")


def test_a_checkpoint_has_a_name_too(cache: Path, tmp_path: Path) -> None:
    def checkpoint(value: str) -> object:
        return CHECKPOINT.convert(value, click.Argument(["checkpoint"]), None)

    assert checkpoint("demo") == bundle_argument.included_checkpoint("demo")
    (tmp_path / "demo").mkdir()
    assert checkpoint("demo") == Path("demo"), "a folder of that name comes first"
    with pytest.raises(CheckpointError, match="nosuch: there is no such folder; give a checkpoint's folder, or demo"):
        checkpoint("nosuch")
