"""Quantization is reproducible byte for byte, and refuses a quantized bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.quantized import plan_of
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.writing import write_quantized
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import BundleError


def test_the_same_plan_gives_the_same_bytes_and_a_record(one_layer_bundle: Bundle, tmp_path: Path) -> None:
    plan = plan_of(one_layer_bundle, Scheme.W8A8)
    for name in ("one", "two"):
        write_quantized(one_layer_bundle, tmp_path / name, plan, {"target": "cpu"})
    for file in sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["quantization"] == {"target": "cpu"}


def test_a_quantized_bundle_is_not_quantized_again(one_layer_bundle: Bundle, tmp_path: Path) -> None:
    write_quantized(one_layer_bundle, tmp_path / "out", plan_of(one_layer_bundle, Scheme.W8), {})
    with pytest.raises(BundleError, match="quantized already"):
        write_quantized(open_bundle(tmp_path / "out"), tmp_path / "again", plan_of(one_layer_bundle, Scheme.W8), {})
