"""`unimoe voices`: names, tunes and limits, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.voices import voices
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.bundles.abilities import read_abilities


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("voices"))


def test_everything_that_can_be_asked_for_is_listed(speaking: Path) -> None:
    abilities = read_abilities(open_bundle(speaking))
    shown = CliRunner().invoke(voices, [str(speaking)])
    assert shown.exit_code == 0, shown.output
    for name in (*abilities.voices, *abilities.instruments, "ode to joy", "English", "characters"):
        assert name in shown.stdout
    report = json.loads(CliRunner().invoke(voices, [str(speaking), "--json"]).stdout)
    assert list(report["voices"]) == list(abilities.voices) and report["max_voice_s"] == 0
