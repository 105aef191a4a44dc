"""Requirements come from package metadata and from a checkout."""

from __future__ import annotations

import pytest

from unimoe_tools.doctor import packages
from unimoe_tools.doctor.packages import Need


def test_requirements_are_read_from_metadata_and_from_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = packages.extras(("", "export"))
    assert {"onnx", "onnx-ir"} <= {need.name for need in checkout["export"]}
    assert "numpy" in {need.name for need in checkout[""]}
    lines = ['av>=15; extra == "video"', 'x[y]>=1.2; sys_platform == "beos" and extra == "export"', "click>=8.1"]
    monkeypatch.setattr(packages, "requires", lambda name: lines)
    found = packages.extras(("", "export", "video"))
    assert found["export"] == (Need(name="x", at_least=(1, 2), available=False),)
    assert found["video"] == (Need(name="av", at_least=(15,), available=True),)
    assert found[""][0].at_least == (8, 1)
