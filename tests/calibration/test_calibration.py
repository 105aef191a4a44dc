"""`calibrate` and its command: a bundle that runs, with a record and reproducible, or one line with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unimoe_calibration.calibration import calibrate
from unimoe_calibration.result import HEAT_MAP, REPORT
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.settings import Settings
from unimoe_calibration.statistics import linears
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import BundleError
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics are gathered once for these tests."""
    return tmp_path_factory.mktemp("cache")


def content(folder: Path) -> dict[str, bytes]:
    files = [
        file for file in folder.rglob("*") if file.is_file() and file != folder / REPORT
    ]  # the page contains times
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_a_quantized_bundle_speaks_and_says_how_it_was_made(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    result = calibrate(bundle.path, tmp_path / "int8", Settings(scheme="w8a8", floor=16, cache_dir=cache))
    assert not result.warnings and result.precisions == {"int8": 11}
    assert result.bytes_after < result.bytes_before
    quantized = open_bundle(tmp_path / "int8")
    assert set(quantized.check_all()) == set(quantized.files) >= {CALIBRATION_PROMPTS}
    with Synthesizer.open(tmp_path / "int8") as synthesizer:
        assert len(synthesizer.synthesize(SynthesisRequest(task="speech", text="the cat")).codes_TK)
    record = quantized.manifest["quantization"]
    assert record["target"] == "cpu" and record["scheme"] == "w8a8" and record["seed"] == 0
    assert record["data"]["source"] == "prompts.jsonl" and len(record["data"]["sha256"]) == 64
    assert record["coverage"]["tokens"].keys() == {"speech", "music"} and record["fallbacks"] == {}
    assert list(record["products"]) == [str(linear) for linear in linears(bundle.model)]
    assert quantized.manifest["routing_statistics"]["tasks"].keys() == {"speech", "music"}
    head = record["products"]["head/head.weight"]
    assert (
        head["scheme"] == "w8a8"
        and head["input_range"] > 0
        and head["method"] in ("max", "percentile", "mse", "entropy")
    )
    assert result.verification is not None and result.verification.comparison.forced.router_agreement > 0.9
    assert {found.graph for found in result.sensitivities} == set(language_model_graphs(bundle.model))
    page = (tmp_path / "int8" / REPORT).read_text()
    for title in ("Coverage", "Verification", "What each graph costs", "Products"):
        assert title in page
    assert "<script" not in page and "head/head.weight" in page
    assert (tmp_path / "int8" / HEAT_MAP).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BundleError, match="is quantized already; calibrate the float32 bundle it was made from"):
        calibrate(tmp_path / "int8", tmp_path / "again", Settings())


@pytest.mark.slow
def test_the_same_again_is_the_same_byte_for_byte(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    settings = Settings(scheme="w8a8", floor=16, method="entropy", flips=False, verify_steps=20)
    for name, cached in (("one", cache), ("two", None)):
        calibrate(bundle.path, tmp_path / name, replace(settings, cache_dir=cached))
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fallback", "scheme"), [("weight-only", Scheme.W8), ("float", Scheme.FLOAT), ("nearest", Scheme.W8A8)]
)
def test_an_expert_below_the_floor_is_labelled(
    bundle: Bundle, tmp_path: Path, cache: Path, fallback: str, scheme: Scheme
) -> None:
    settings = Settings(scheme="w8a8", floor=700, fallback=fallback, cache_dir=cache, flips=False, verify_steps=0)
    result = calibrate(bundle.path, tmp_path / "out", settings)
    below = result.coverage.below()
    assert below and f"{len(below)} experts received fewer than 700 tokens" in result.warnings[0]
    record = open_bundle(tmp_path / "out").manifest["quantization"]
    for layer, expert in below:
        graph = f"layers.{layer}.expert.{expert}"
        assert record["fallbacks"][graph].startswith(fallback)
        assert {record["products"][f"{graph}/{weight}.weight"]["scheme"] for weight in ("gate_up", "down")} == {scheme}
    assert len(record["fallbacks"]) == len(below)
