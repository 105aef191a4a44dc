"""Gives the exporter a codec as a folder. Converts DAC's published weight file first, which needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from unimoe_runtime.errors import BackendError, CheckpointError
from unimoe_runtime.install import install_command


@contextmanager
def as_codec_folder(codec: Path | None) -> Iterator[Path | None]:
    """The codec's folder: `codec` itself, or for a weight file a temporary folder that exists within the block.

    Raises CheckpointError, which names `codec`, where the file or the converted folder is no matching codec.
    Raises BackendError where torch is missing.
    """
    if codec is None or not codec.is_file():
        yield codec
        return
    try:
        from unimoe.codec.dac import import_dac
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise BackendError(f"{codec}: reading it needs torch; `{install_command('train')}`") from None
    with TemporaryDirectory(prefix="unimoe-codec-") as temporary:
        folder = Path(temporary) / "codec"
        import_dac(codec, folder)
        try:
            yield folder
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), str(codec))) from None
