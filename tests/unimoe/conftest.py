"""Fixtures of the torch model's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.checkpoint import load_model
from unimoe.model import UniMoE


@pytest.fixture(scope="session")
def reference_model(reference_checkpoint: Path) -> UniMoE:
    """The reference vectors' model; tests leave its parameters as they are."""
    return load_model(reference_checkpoint)
