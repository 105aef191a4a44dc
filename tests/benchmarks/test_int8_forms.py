"""All forms of a quantized expert compute the same expert. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import int8_forms


def test_every_form_is_near_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_forms, "_SET_BYTES", 1.0)
    result = int8_forms.measure(64, 2, 1, tmp_path)
    assert set(result["speed"]) == set(int8_forms.FORMS)
    assert result["error"]["float32"] == 0
    for form, error in result["error"].items():
        assert error < (0.25 if form.startswith("4 bits") else 0.05)
        assert form == "float32" or error > 0
