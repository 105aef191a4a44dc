"""Uploaded files: read one at a time, each from a temporary file that is deleted afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime import UnimoeError, Video, read_audio
from unimoe_serving.errors import RequestError
from unimoe_serving.models import ServedModel

T = TypeVar("T")


class Uploads:
    """Reads videos and recordings in its own thread, so that decoding continues."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "upload")

    async def read_video(self, model: ServedModel, upload: BinaryIO) -> Video:
        """An upload's frames. Raises RequestError; its message does not contain the path of the temporary file."""
        synthesizer = model.synthesizer
        if not model.takes_video:
            raise RequestError(f"{model.name} takes no video: it makes music from a text alone", param="video")
        return await self._read("video", upload, "", synthesizer.read_video)

    async def read_recording(self, model: ServedModel, upload: BinaryIO, suffix: str) -> NDArray[np.float32]:
        """pcm_L of a recording at the bundle's rate. Raises RequestError."""
        synthesizer = model.synthesizer

        def read(path: Path) -> NDArray[np.float32]:
            return read_audio(path, synthesizer.sample_rate_hz, max_s=synthesizer.frontend.max_voice_s)

        return await self._read("audio_sample", upload, suffix, read)

    def close(self) -> None:
        """End the reading thread."""
        self._executor.shutdown()

    async def _read(self, field: str, upload: BinaryIO, suffix: str, read: Callable[[Path], T]) -> T:
        def work() -> T:
            with tempfile.NamedTemporaryFile(prefix="unimoe-", suffix=suffix) as file:
                copyfileobj(upload, file)
                file.flush()
                try:
                    return read(Path(file.name))
                except UnimoeError as error:
                    told = str(error).replace(file.name, "the upload")
                    raise RequestError(told, param=field, code="invalid_upload") from None

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
