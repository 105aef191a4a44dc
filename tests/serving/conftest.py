"""Fixtures of the server's tests: tiny bundles, one that speaks and plays and one that clones and watches, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.public_folder import write_public_folder
from tests.random_dac import write_random_dac
from tests.serving.running import RunningServer, running_server
from tests.speaking_bundle import write_speaking_bundle
from unimoe import cli
from unimoe_runtime import Synthesizer


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speaks and plays, noise of a tenth of a second."""
    return write_speaking_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def public_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published model in miniature: clones voices, takes videos."""
    folder = write_public_folder(tmp_path_factory.mktemp("public") / "model")
    (folder / "dac_model").mkdir()
    write_random_dac(folder / "dac_model" / "weights_16khz.pth")
    target = folder.parent / "bundle"
    result = CliRunner().invoke(cli.cli, ["export", str(folder), str(target)])
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture(scope="session")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    """The tiny bundle, served with the default limits."""
    with running_server({"tiny": tiny_bundle}) as running:
        yield running


@pytest.fixture(scope="session")
def library(tiny_bundle: Path) -> Iterator[Synthesizer]:
    """The tiny bundle without a server."""
    with Synthesizer.open(tiny_bundle) as synthesizer:
        yield synthesizer
