"""All forms of attention compute the same values. No timing is asserted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import attention_forms


def test_every_form_attends_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_forms, "_SET_BYTES", 1.0)
    assert set(attention_forms.measure(384, 2, 1)) == set(attention_forms.FORMS)


def test_a_form_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_forms, "_SET_BYTES", 1.0)
    monkeypatch.setattr(attention_forms, "_SCALE", np.float32(0.01))  # cuts the 8-bit cache's values off
    with pytest.raises(ValueError, match="8-bit cache at hidden 384"):
        attention_forms.measure(384, 2, 1)
