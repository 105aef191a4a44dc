"""Fixtures of the server's tests: two served tiny bundles. One speaks and plays, one clones voices and takes videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.public_folder import write_public_folder
from tests.random_dac import write_random_dac
from tests.serving.running import RunningServer, running_server
from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.group import cli
from unimoe_runtime import Synthesizer


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that speaks and plays: 0.1 s of noise."""
    return write_speaking_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def public_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of the published model: it clones voices and takes videos."""
    folder = write_public_folder(tmp_path_factory.mktemp("public") / "model")
    (folder / "dac_model").mkdir()
    write_random_dac(folder / "dac_model" / "weights_16khz.pth")
    target = folder.parent / "bundle"
    result = CliRunner().invoke(cli, ["export", str(folder), str(target)])
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture(scope="session")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server for the tiny bundle with the default limits."""
    with running_server({"tiny": tiny_bundle}) as running:
        yield running


@pytest.fixture(scope="session")
def library(tiny_bundle: Path) -> Iterator[Synthesizer]:
    """The tiny bundle without a server."""
    with Synthesizer.open(tiny_bundle) as synthesizer:
        yield synthesizer
