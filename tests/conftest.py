"""Fixtures shared by the packages' tests: the reference vectors' model as a checkpoint and as a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the record of built engines out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


VECTORS = Path(__file__).parent / "vectors"


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference vectors' model as a folder in the published format."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "config.json").write_bytes((VECTORS / "tiny_config.json").read_bytes())
    (folder / "model.safetensors").symlink_to(VECTORS / "tiny_model_state.safetensors")
    return folder


@pytest.fixture(scope="session")
def reference_bundle(reference_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference vectors' model, exported."""
    from unimoe_export.exporter import export_bundle

    bundle = tmp_path_factory.mktemp("bundles") / "reference"
    export_bundle(reference_checkpoint, bundle)
    return bundle
