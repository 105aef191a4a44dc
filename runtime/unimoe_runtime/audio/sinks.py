"""Sinks for a stream's samples: a growing WAV file, a pipe, the loudspeaker.

A sink is a context manager: `write` chunks, then `finish`. Leaving it without `finish` discards the output if possible.

L samples
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from io import FileIO
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.audio.wav import HEADER_BYTES, to_int16, wav_header
from unimoe_runtime.errors import AudioError, OutputError
from unimoe_runtime.files.atomic import PartialFile
from unimoe_runtime.files.text import reason_of
from unimoe_runtime.install import install_command

Floats = NDArray[np.float32]
_PLAYED_AHEAD_CHUNKS = 4


class Sink(Protocol):
    """Takes samples as they arrive."""

    def write(self, pcm_L: Floats) -> None:
        """Take one chunk; returns when there is room for the next. Raises AudioError or OutputError."""

    def finish(self) -> None:
        """No more samples will come: complete the output."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class WavSink:
    """A mono 16-bit WAV file, valid after every chunk: it grows under a temporary name beside `path`.

    `finish` renames it to `path`; without `finish` no file is left.
    """

    def __init__(self, path: Path, sample_rate_hz: int) -> None:
        if path.suffix.lower() != ".wav":
            raise AudioError(f"{path}: a stream is written as WAV: give a name that ends in .wav, or - for a pipe")
        self._path, self._rate_hz, self._num_bytes = path, sample_rate_hz, 0
        try:
            self._partial = PartialFile(path)
        except (OSError, ValueError) as error:
            raise self._error(error) from None
        try:
            self._file = self._partial.path.open("wb", buffering=0)
            self._write(b"")
        except OSError as error:
            self._partial.drop()
            raise self._error(error) from None
        except AudioError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with suppress(OSError):
            self._partial.drop()

    def write(self, pcm_L: Floats) -> None:
        self._write(to_int16(pcm_L).tobytes())

    def finish(self) -> None:
        try:
            written = os.fstat(self._file.fileno()).st_size - HEADER_BYTES
            if written != self._num_bytes:  # a signal came between a chunk's samples and their header
                with suppress(struct.error):
                    self._put(0, wav_header(self._rate_hz, written // 2))
            self._file.close()
            self._partial.keep()
        except OSError as error:
            raise self._error(error) from None

    def _write(self, samples: bytes) -> None:
        """Write the samples, then the header with their number, so that the file is valid at any moment."""
        try:
            self._put(HEADER_BYTES + self._num_bytes, samples)
            self._put(0, wav_header(self._rate_hz, (self._num_bytes + len(samples)) // 2))
            self._num_bytes += len(samples)
        except OSError as error:
            raise self._error(error) from None
        except struct.error:
            raise AudioError(f"{self._path} would have more than 4 GB, which WAV cannot: give a shorter text") from None

    def _put(self, place: int, content: bytes) -> None:
        self._file.seek(place)
        waiting = memoryview(content)
        while waiting:
            waiting = waiting[self._file.write(waiting) :]

    def _error(self, error: Exception) -> AudioError:
        name = str(self._path)[:200]
        return AudioError(f"{name} cannot be written ({reason_of(error)}): is the folder there, the disk full?")


class PipeSink:
    """Writes raw mono 16-bit little-endian samples to an open unbuffered file (stdout). Raises OutputError."""

    def __init__(self, pipe: FileIO) -> None:
        self._pipe = pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing: the caller owns the pipe."""

    def write(self, pcm_L: Floats) -> None:
        try:
            waiting = memoryview(to_int16(pcm_L).tobytes())
            while waiting:
                waiting = waiting[self._pipe.write(waiting) :]
        except OSError as error:
            why = "its reader is gone" if error.errno == errno.EPIPE else "is the disk full?"
            raise OutputError(f"the pipe takes no more ({error.strerror}): {why}") from None

    def finish(self) -> None:
        """Does nothing: all samples are already written."""


class PlaySink:
    """The default loudspeaker, through `sounddevice`. A thread feeds it from a queue of a few chunks.

    `underruns` counts the chunks that came too late. Raises AudioError if no device can play.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        try:
            import sounddevice
        except ImportError:
            raise AudioError(f"playing needs sounddevice: `{install_command('play')}`") from None
        except OSError:
            raise AudioError("playing needs the PortAudio library, such as the package libportaudio2") from None
        try:
            self._device: Any = sounddevice.OutputStream(samplerate=sample_rate_hz, channels=1, dtype="float32")
            self._device.start()
        except sounddevice.PortAudioError as error:
            raise AudioError(f"there is nothing to play on ({error}): write a file with -o") from None
        self.underruns = 0
        self._problem: Exception | None = None
        self._gone = Event()
        self._queue: Queue[Floats | None] = Queue(_PLAYED_AHEAD_CHUNKS)
        self._thread = Thread(target=self._play, name="play", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._device.abort()
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join()
        self._device.close()

    def write(self, pcm_L: Floats) -> None:
        self._put(pcm_L)

    def finish(self) -> None:
        self._put(None)
        self._thread.join()
        self._device.stop()

    def _put(self, pcm_L: Floats | None) -> None:
        while True:
            if self._problem is not None:
                raise AudioError(f"playing stopped ({self._problem}): is the device still there?")
            try:
                return self._queue.put(pcm_L, timeout=0.1)
            except Full:
                continue

    def _play(self) -> None:
        first = True
        while not self._gone.is_set() and (pcm_L := self._queue.get()) is not None:
            try:
                late = self._device.write(pcm_L[:, None])
            except Exception as error:
                self._problem = error
                return
            self.underruns += bool(late and not first)
            first = False
