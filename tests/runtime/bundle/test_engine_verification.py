"""The record of a verification: written, read, and refused where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unimoe_runtime.bundle.engine_verification import (
    VERIFICATION_JSON,
    Agreement,
    EngineVerdict,
    Verification,
    read_verification,
    write_verification,
)  # fmt: skip
from unimoe_runtime.errors import EngineError

VERDICT = EngineVerdict(
    precision="float32", max_abs_error=1e-4, max_abs_value=2.0, allowed=1e-3, result_sha256="0" * 64
)


def verification(router_agreement: float = 1.0) -> Verification:
    return Verification(
        engines_sha256="1" * 64, backend="tensorrt", reference="onnxruntime", machine={"gpu": None}, date="2026-11-28",
        engines={"head": VERDICT}, router_agreement_needed=0.99,
        agreement=Agreement(
            steps=8, max_logit_error=0.1, max_logit_value=9.0, router_agreement=router_agreement, equal_sets=1.0,
            token_agreement=1.0, first_difference=None,
        ),
    )  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_verification(tmp_path) is None
    write_verification(tmp_path, verification())
    found = read_verification(tmp_path)
    assert found == verification() and found.passed
    write_verification(tmp_path, verification(router_agreement=0.5))
    failed = read_verification(tmp_path)
    assert failed is not None and not failed.passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"), ({"engines": {"head": 3}}, "damaged"), ({"engines": []}, "damaged"),
        ({"agreement": {}}, "damaged"), ({"date": None}, "damaged"), ({"router_agreement_needed": "1"}, "damaged"),
        ({"more": 1}, "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / VERIFICATION_JSON).write_text(json.dumps({**verification().to_dict(), **change}))
    with pytest.raises(EngineError, match=message) as caught:
        read_verification(tmp_path)
    assert "\n" not in str(caught.value)
