"""Audio files: reading to mono at a wanted rate, and writing without ever leaving half a file.

Shapes: L samples, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from unimoe_runtime.errors import AudioError
from unimoe_runtime.files.atomic import PartialFile

FORMATS: Final = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Suffix to libsndfile's format and subtype, of files that are written."""

READABLE: Final = (*FORMATS, ".mp3", ".opus", ".oga", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
"""Suffixes of files that are read."""


def read_audio(path: str | Path, sample_rate_hz: int, *, max_s: float | None = None) -> NDArray[np.float32]:
    """Read an audio file (`READABLE`) of any rate and any number of channels.

    Channels are averaged, then resampled (soxr, high quality). Returns float32 samples pcm_L at `sample_rate_hz`,
    full scale -1 … 1. Raises AudioError when the file is missing, is no audio, holds no samples, or is longer than
    `max_s`.
    """
    path = Path(path)
    if path.suffix.lower() not in READABLE:
        raise AudioError(f"{path} has the suffix {path.suffix!r}: convert it to one of {', '.join(READABLE)}")
    if not path.is_file():
        raise AudioError(f"{path} is no file: give the path of an audio file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is an empty file: give one with sound in it")
    try:
        seconds = soundfile.info(path).duration
        if max_s is not None and seconds > max_s:
            raise AudioError(f"{path} is {seconds:.1f} s long: cut it to at most {max_s:g} s")
        pcm_LC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio ({_reason(error)}): convert it to WAV, FLAC or OGG") from None
    if len(pcm_LC) == 0:
        raise AudioError(f"{path} holds no samples: give a file with sound in it")
    if not np.isfinite(pcm_LC).all():
        raise AudioError(f"{path} holds samples that are not numbers: write it again from its source")
    return resample(pcm_LC.mean(axis=1, dtype=np.float32), rate_hz, sample_rate_hz)


def resample(pcm_L: NDArray[np.float32], from_rate_hz: int, to_rate_hz: int) -> NDArray[np.float32]:
    """Resample mono audio; returns it as it is where the rates agree."""
    if from_rate_hz == to_rate_hz:
        return pcm_L
    resampled: NDArray[np.float32] = soxr.resample(pcm_L, from_rate_hz, to_rate_hz).astype(np.float32)
    return resampled


def write_audio(path: str | Path, pcm_L: NDArray[np.floating[Any]], sample_rate_hz: int) -> None:
    """Write mono audio as the suffix says: 16-bit WAV or FLAC, or Ogg Vorbis. Samples are clipped to -1 … 1.

    The file appears under its name only when it is complete: it is written under a temporary name in the same
    folder, then renamed. Raises AudioError, with nothing left behind, when the suffix is unknown, the folder is
    missing or the write fails, as on a full disk.
    """
    path = Path(path)
    file_format, subtype = _require_known_suffix(path)
    if pcm_L.ndim != 1:
        raise AudioError(f"{path}: audio of {pcm_L.ndim} dimensions cannot be written, only one channel of samples")
    if not np.isfinite(pcm_L).all():
        raise AudioError(f"{path}: the audio holds samples that are not numbers, so it was not written")
    clipped_L = np.clip(pcm_L, -1, 1).astype(np.float32)

    def write(partial: Path) -> None:
        soundfile.write(partial, clipped_L, sample_rate_hz, format=file_format, subtype=subtype)

    _write_then_rename(path, write)


def require_writable(path: str | Path) -> None:
    """Raise AudioError now where `write_audio` could not write later: unknown suffix, or no such folder."""
    path = Path(path)
    _require_known_suffix(path)
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise AudioError(f"{path} cannot be written: choose a file name in a folder that exists and is yours")


def _require_known_suffix(path: Path) -> tuple[str, str]:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise AudioError(f"{path} has the suffix {path.suffix!r}: use one of {', '.join(FORMATS)}") from None


def _write_then_rename(path: Path, write: Callable[[Path], None]) -> None:
    try:
        partial = PartialFile(path)
    except OSError as error:
        raise AudioError(
            f"{path} cannot be written ({_reason(error)}): choose a folder that exists and is yours"
        ) from None
    try:
        write(partial.path)
        partial.keep()
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be written ({_reason(error)}): is the disk full?") from None
    finally:
        partial.drop()


def _reason(error: Exception) -> str:
    """The system's words for an error, on one line and without the path, which the message names already."""
    words = error.strerror if isinstance(error, OSError) else getattr(error, "error_string", None)
    return str(words or error).strip().rstrip(".")
