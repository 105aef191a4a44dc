"""DAC's weight file as a codec folder, and the messages for a missing torch and for a codec that does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.random_dac import write_random_dac
from unimoe.codec.conversion import as_codec_folder
from unimoe.codec.dac import DacCodec
from unimoe_runtime.errors import BackendError, CheckpointError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_dac(tmp_path_factory.mktemp("dac") / "weights_16khz.pth")


def test_a_weight_file_is_a_folder_for_a_while_and_a_folder_stays_itself(weights: Path, tmp_path: Path) -> None:
    with as_codec_folder(weights) as folder:
        assert folder is not None
        assert DacCodec.load(folder).config == DacCodec.from_published(weights).config
    assert not folder.exists()
    for codec in (tmp_path, None):
        with as_codec_folder(codec) as same:
            assert same == codec
    assert tmp_path.exists()


def test_errors_name_the_weight_file(weights: Path) -> None:
    with pytest.raises(CheckpointError, match=f"^{weights}: too few$"), as_codec_folder(weights) as folder:
        raise CheckpointError(f"{folder}: too few")


def test_without_torch_the_weight_file_is_one_line(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unimoe.codec.dac")
    monkeypatch.setitem(sys.modules, "torch", None)
    needs_torch = pytest.raises(BackendError, match=r"pth: reading it needs torch; `pip install .*\[train\]\"`")
    with needs_torch, as_codec_folder(weights):
        pass
