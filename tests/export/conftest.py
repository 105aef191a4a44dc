"""A tiny checkpoint of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "checkpoint", tiny_config())
