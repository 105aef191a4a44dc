"""`unimoe verify`: equal bundles pass, different ones fail with a table, incomparable ones give one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from unimoe.cli.group import cli


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)])


@pytest.mark.slow
def test_a_quantized_bundle_is_compared_within_limits(bundles_by_precision: dict[str, Path]) -> None:
    against = ("--against", bundles_by_precision["float"], "--steps", "20")
    shown = verify(bundles_by_precision["w8"], *against)
    assert shown.exit_code == 0, shown.output
    assert "router-agreement" in shown.output and "within the limits" in shown.output
    refused = verify(bundles_by_precision["w8"], *against, "--limit", "size", "0.1", "--json")
    report = json.loads(refused.stdout)
    assert refused.exit_code == 1 and not report["passed"]
    assert [figure["name"] for figure in report["figures"] if not figure["passed"]] == ["size"]
    asked = verify(bundles_by_precision["float"], *against, "--limit", "kl", "0")
    assert asked.exit_code == 0, asked.output


def test_what_cannot_be_compared_is_one_line(bundles_by_precision: dict[str, Path]) -> None:
    alone = verify(bundles_by_precision["w8"])
    assert alone.exit_code == 1 and "--against BUNDLE" in str(alone.exception)
    compared = (bundles_by_precision["w8"], "--against", bundles_by_precision["float"], "--steps", "5")
    for arguments, message in (
        ((bundles_by_precision["float"], "--limit", "kl", "1"), "name it with --against"),
        ((bundles_by_precision["float"], "--limit", "kl", "nan"), "no finite number"),
        ((*compared, "--limit", "notes", "0"), "needs a corpus"),
        ((*compared, "--limit", "spectral-db", "1"), "with a codec"),
    ):
        refused = verify(*arguments)
        assert refused.exit_code == 2 and message in refused.output
