"""`unimoe build`: invalid options are a usage error before anything is opened or built."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from unimoe.cli.build import build


@pytest.mark.parametrize(
    "options", [[], ["--target", "t4", "--cache-capacity", "many"], ["--target", "t4", "--rows", "0"]]
)
def test_options_that_cannot_be(reference_bundle: Path, options: list[str]) -> None:
    assert CliRunner().invoke(build, [str(reference_bundle), *options]).exit_code == 2
