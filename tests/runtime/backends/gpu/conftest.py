"""A tiny bundle for the device loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, open_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", tiny_config()), tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")
