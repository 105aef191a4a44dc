"""Engines open only on the machine that built them or if the user trusts them; a bundle cannot vouch for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.engine_trust import TRUST_ENGINES, is_trusted, require_trusted, trust, trust_folder
from unimoe_runtime.errors import EngineError


def engines(folder: Path) -> EngineSet:
    folder.mkdir(parents=True)
    (folder / "engines.json").write_text("{}")
    return EngineSet(
        path=folder, target="sm86", flavour="tensorrt-rtx", engine_version="1.7", capabilities=((8, 6),), max_rows=2,
        max_positions=64, cache_capacities=(256,), engines={},
    )  # fmt: skip


def test_a_strangers_engines_are_refused_until_the_user_trusts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    engine_set = engines(tmp_path / "bundle" / "engines" / "sm86")
    with pytest.raises(
        EngineError, match=r"not built on this machine.*unimoe build BUNDLE --target sm86.*--trust-engines"
    ):
        require_trusted(engine_set)
    monkeypatch.setenv(TRUST_ENGINES, "1")
    require_trusted(engine_set)
    monkeypatch.delenv(TRUST_ENGINES)
    require_trusted(engine_set)  # the trust is stored outside the bundle
    assert trust_folder() == tmp_path / "state" / "unimoe" / "trusted-engines"
    (engine_set.path / "engines.json").write_text("{ }")
    with pytest.raises(EngineError, match="not built on this machine"):
        require_trusted(engine_set)


def test_where_nothing_can_be_written_nothing_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    trust("0" * 64)
    assert not is_trusted("0" * 64)
