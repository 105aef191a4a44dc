"""`unimoe verify`: equal bundles pass, different ones fail with a table, incomparable ones give one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe import cli
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model as "float", "w8" and "w4" bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    config = tiny_config(hidden_size=64, routed_intermediate_size=32, codebook_size=32)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "float")
    for scheme in (Scheme.W8, Scheme.W4):
        plan = {linear: LinearPlan(scheme=scheme) for linear in linears(config)}
        write_quantized(
            open_bundle(folder / "float"),
            folder / scheme,
            QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plan),
            {},
        )
    return {name: folder / name for name in ("float", "w8", "w4")}


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, ["verify", *map(str, arguments)])


def test_a_quantized_bundle_is_compared_within_limits(bundles: dict[str, Path]) -> None:
    against = ("--against", bundles["float"], "--steps", "20")
    shown = verify(bundles["w8"], *against)
    assert shown.exit_code == 0, shown.output
    assert "router-agreement" in shown.output and "within the limits" in shown.output
    refused = verify(bundles["w8"], *against, "--limit", "size", "0.1", "--json")
    report = json.loads(refused.stdout)
    assert refused.exit_code == 1 and not report["passed"]
    assert [figure["name"] for figure in report["figures"] if not figure["passed"]] == ["size"]
    asked = verify(bundles["float"], *against, "--limit", "kl", "0")
    assert asked.exit_code == 0, asked.output


def test_what_cannot_be_compared_is_one_line(bundles: dict[str, Path]) -> None:
    alone = verify(bundles["w8"])
    assert alone.exit_code == 1 and "--against BUNDLE" in str(alone.exception)
    for arguments, message in (
        ((bundles["float"], "--limit", "kl", "1"), "name it with --against"),
        ((bundles["float"], "--limit", "kl", "nan"), "no finite number"),
        ((bundles["w8"], "--against", bundles["float"], "--steps", "5", "--limit", "notes", "0"), "needs a corpus"),
        ((bundles["w8"], "--against", bundles["float"], "--steps", "5", "--limit", "spectral-db", "1"), "with a codec"),
    ):
        refused = verify(*arguments)
        assert refused.exit_code == 2 and message in refused.output
