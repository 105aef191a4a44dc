"""The location of a checkpoint's codec: its own folder, or DAC's published weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from unimoe_runtime.checkpoint.folder import Checkpoint
from unimoe_runtime.errors import CheckpointError

WEIGHT_FILES: Final = ("dac_model/weights_16khz.pth", "utils/dac_model/weights_16khz.pth", "weights_16khz.pth")
"""The path of DAC's weight file in the published code, relative to its folder."""


def find_codec(checkpoint: Checkpoint, given: Path | str | None = None) -> Path | None:
    """The codec to export: `given`, else the checkpoint's own folder, else the weight file inside a published
    checkpoint; None where there is none. A codec is a folder, or DAC's weight file.

    Raises CheckpointError where there is nothing at `given`.
    """
    if given is not None:
        path = Path(given)
        if path.is_file() or (path / "config.json").is_file():
            return path
        raise CheckpointError(f"{path}: is no codec: give DAC's weights_16khz.pth, or a codec folder")
    if checkpoint.codec_dir is not None:
        return checkpoint.codec_dir
    return next((path for file in WEIGHT_FILES if (path := checkpoint.path / file).is_file()), None)


def codec_files(codec: Path | None) -> list[Path]:
    """The files in a codec's folder."""
    return [] if codec is None else sorted(file for file in codec.rglob("*") if file.is_file())
