"""Invalid settings give one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unimoe_calibration.calibration import calibrate
from unimoe_calibration.settings import Settings
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import CalibrationError, ConfigError, OutputError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics are gathered once for these tests."""
    return tmp_path_factory.mktemp("cache")


def test_settings_that_cannot_be_are_one_line(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(
        CalibrationError, match=r"received fewer than 700 tokens, .*: give more data \(--data\), or lower"
    ):
        calibrate(bundle.path, tmp_path / "out", Settings(floor=700, strict=True, cache_dir=cache))
    with pytest.raises(ConfigError, match=r"target cpu .* has no fp8; it takes --precision int8"):
        calibrate(bundle.path, tmp_path / "out", Settings(scheme="fp8"))
    with pytest.raises(ConfigError, match="no target 'abacus'; there are cpu"):
        calibrate(bundle.path, tmp_path / "out", Settings(target="abacus"))
    with pytest.raises(OutputError, match="is the bundle itself"):
        calibrate(bundle.path, bundle.path, Settings())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OutputError, match="exists already"):
        calibrate(bundle.path, tmp_path / "taken", Settings())
    cases: list[tuple[str, Any, str]] = [
        ("floor", 0, "at least 1"),
        ("max_loss", -1.0, "above 0"),
        ("method", "best", "one of"),
    ]
    for name, value, message in cases:
        with pytest.raises(ConfigError, match=f"{name} is .*; it must be {message}"):
            Settings(**{name: value})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
