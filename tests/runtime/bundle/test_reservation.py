"""A bundle's path: reserved before the work and taken atomically, with links and working folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.bundle.small_bundle import finish
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.errors import OutputError


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_link_stays_and_its_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:  # an older kernel, or another file system
        monkeypatch.setattr("unimoe_runtime.bundle.reservation.exchange", lambda first, second: False)
    (tmp_path / "disk").mkdir()
    (tmp_path / "bundle").symlink_to(tmp_path / "disk" / "real")
    for content in ("first", "second", "third"):
        with BundleWriter(tmp_path / "bundle", replace=True) as writer:
            (writer.directory / "part").write_text(content)
            writer.add_file("part")
            finish(writer)
        assert (tmp_path / "disk" / "real" / "part").read_text() == content
    assert (tmp_path / "bundle").is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bundle", "disk", "manifest.json", "part", "real"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_whoever_has_mapped_a_file_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """A writer never changes a file in place."""
    if not can_exchange:
        monkeypatch.setattr("unimoe_runtime.bundle.reservation.exchange", lambda first, second: False)
    mapped = []
    for content in (b"first", b"2nd"):
        with BundleWriter(tmp_path / "bundle", replace=True) as writer:
            (writer.directory / "part").write_bytes(content)
            writer.add_file("part")
            finish(writer)
        mapped.append(np.memmap(tmp_path / "bundle" / "part", mode="r"))
    assert [bytes(one) for one in mapped] == [b"first", b"2nd"]


def test_the_working_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    for target in (Path("."), tmp_path, tmp_path / "inner" / ".."):
        with pytest.raises(OutputError, match="the folder that this runs in; name another"):
            BundleWriter(target)
    assert [path.name for path in tmp_path.rglob("*")] == ["inner"]


def test_a_reserved_place_is_refused_to_others_from_the_start(tmp_path: Path) -> None:
    with Reservation(tmp_path / "bundle") as place:
        with pytest.raises(OutputError, match="another process is writing it"):
            Reservation(tmp_path / "bundle")
        with BundleWriter(place) as writer:
            finish(writer)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    with Reservation(tmp_path / "other"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
