"""Opening codecs: a broken folder gives one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from unimoe.codec.base import load_codec
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe_runtime.errors import CheckpointError


def test_broken_folders_have_one_line_errors(tmp_path: Path, codec: ConvNeXtCodec) -> None:
    with pytest.raises(CheckpointError, match="no codec configuration"):
        load_codec(tmp_path)
    codec.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["decoder.head.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder\.head\.bias") as caught:
        load_codec(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "tape"}))
    with pytest.raises(CheckpointError, match="'tape'"):
        load_codec(tmp_path)
