"""`unimoe data sources`, as a table and as JSON."""

from __future__ import annotations

import json

from click.testing import CliRunner

from unimoe.cli.data import data


def test_sources_are_listed() -> None:
    shown = CliRunner().invoke(data, ["sources"])
    assert (
        shown.exit_code == 0
        and "flite" in shown.stdout
        and "CC-BY-SA" in shown.stdout
        and "weights may be shipped" in shown.stdout
    )
    found = json.loads(CliRunner().invoke(data, ["sources", "--json"]).stdout)
    assert {"flite", "fluidsynth"} <= {one["name"] for one in found}
