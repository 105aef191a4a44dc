"""Fixtures shared by the packages' tests: the reference vectors' model as a checkpoint and as a bundle."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test is timed: a busy machine would fail it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the record of built engines out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> None:
    """A shell's background jobs ignore SIGINT, those of nohup SIGHUP, and so would all processes that tests start."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


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


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a language model alone: random weights, no front end, no codec."""
    from tests.random_checkpoint import tiny_config, write_random_checkpoint
    from unimoe_export.exporter import export_bundle

    folder = tmp_path_factory.mktemp("tiny")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def bundles_by_precision(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model as "float", "w8" and "w4" bundles."""
    from tests.quantized import plan_of
    from tests.random_checkpoint import tiny_config, write_random_checkpoint
    from unimoe_calibration.schemes import Scheme
    from unimoe_calibration.writing import write_quantized
    from unimoe_export.exporter import export_bundle
    from unimoe_runtime.bundle.reader import open_bundle

    folder = tmp_path_factory.mktemp("bundles")
    config = tiny_config(hidden_size=64, routed_intermediate_size=32, codebook_size=32)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "float")
    for scheme in (Scheme.W8, Scheme.W4):
        source = open_bundle(folder / "float")
        write_quantized(source, folder / scheme, plan_of(source, scheme), {})
    return {name: folder / name for name in ("float", "w8", "w4")}
