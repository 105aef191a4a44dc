"""Audio files: reading to mono at a given rate, and writing without leaving an incomplete file.

Shapes: L samples, C channels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from unimoe_runtime.audio.headers import require_complete
from unimoe_runtime.errors import AudioError
from unimoe_runtime.files.atomic import PartialFile
from unimoe_runtime.files.text import reason_of

FORMATS: Final = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Suffixes of written files, with libsndfile's format and subtype."""

READABLE: Final = (*FORMATS, ".mp3", ".opus", ".oga", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
"""Suffixes of files that can be read."""

_RATES_HZ: Final = (1_000, 768_000)
_MAX_CHANNELS: Final = 256
_BLOCK_VALUES: Final = 1 << 19
_MAX_SAMPLES: Final = 1 << 26
"""Largest number of samples of one channel: 23 minutes at 48,000 Hz."""
_SIGNATURES: Final = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"dns.", b"caff", b"riff")
"""First bytes of the formats of READABLE; an MP3 file may also begin with a frame."""
_MIN_VOICE_S: Final = 0.1
_SILENCE: Final = 1e-3


def read_audio(
    path: str | Path, sample_rate_hz: int, *, max_s: float | None = None, first_s: float | None = None
) -> NDArray[np.float32]:
    """Read an audio file (`READABLE`) of any rate and any number of channels.

    Channels are averaged, then resampled (soxr, high quality). Returns float32 samples pcm_L at `sample_rate_hz`,
    full scale -1 … 1. Only the first `first_s` seconds are read. The file is read in blocks, so that a wrong length in
    its header has no effect on memory.
    Raises AudioError if the file is missing, is not audio, is cut off, holds no samples, or is longer than `max_s`.
    """
    path = Path(path)
    if path.suffix.lower() not in READABLE:
        raise AudioError(f"{path} has the suffix {path.suffix!r}: convert it to one of {', '.join(READABLE)}")
    try:
        if not path.is_file():
            raise AudioError(f"{path} is not a file: give the path of an audio file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is an empty file: give one with sound in it")
        if not _has_signature(path):
            raise AudioError(f"{path} cannot be read as audio (its format is unknown): convert it to WAV, FLAC or OGG")
        require_complete(path)
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate_hz = file.samplerate
            pcm_L = _read_blocks(file, path, max_s=max_s, first_s=first_s)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise AudioError(f"{path} cannot be read as audio ({_reason(error)}): convert it to WAV, FLAC or OGG") from None
    if len(pcm_L) == 0:
        raise AudioError(f"{path} holds no samples: give a file with sound in it")
    if not np.isfinite(pcm_L).all():
        raise AudioError(f"{path} holds samples that are not numbers: write it again from its source")
    return resample(pcm_L, rate_hz, sample_rate_hz)


def read_voice(
    path: str | Path, sample_rate_hz: int, *, max_s: float | None = None, first_s: float | None = None
) -> NDArray[np.float32]:
    """`read_audio` for a model's input. Also raises AudioError for a file that is silent or too short."""
    pcm_L = read_audio(path, sample_rate_hz, max_s=max_s, first_s=first_s)
    if len(pcm_L) < _MIN_VOICE_S * sample_rate_hz:
        raise AudioError(
            f"{path} has {len(pcm_L) / sample_rate_hz:.3f} s: give a recording of at least {_MIN_VOICE_S:g} s"
        )
    require_sound(path, pcm_L)
    return pcm_L


def require_sound(path: str | Path, pcm_L: NDArray[np.float32]) -> None:
    """Raise AudioError if the samples of a file are silence."""
    if np.abs(pcm_L).max() < _SILENCE:
        raise AudioError(f"{path} is silent: give a recording with sound in it")


def _has_signature(path: Path) -> bool:
    """Whether the first bytes are those of a readable format. libsndfile would decode any other content as MP3, with
    errors on stderr."""
    with path.open("rb") as file:
        begin = file.read(4)
    is_mp3 = path.suffix.lower() == ".mp3" and begin[:1] == b"\xff" and begin[1:2] >= b"\xe0"
    return is_mp3 or begin.startswith(_SIGNATURES)


def _read_blocks(
    file: soundfile.SoundFile, path: Path, *, max_s: float | None, first_s: float | None
) -> NDArray[np.float32]:
    """The mean of the channels, read in blocks."""
    rate_hz, channels = file.samplerate, file.channels
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise AudioError(f"{path} says that it has {rate_hz:,} samples a second: convert it to a usual rate")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise AudioError(f"{path} says that it has {channels:,} channels: convert it to one or two")
    most = _MAX_SAMPLES if max_s is None else min(_MAX_SAMPLES, int(max_s * rate_hz) + 1)
    wanted = most + 1 if first_s is None else min(most, max(1, int(first_s * rate_hz)))
    blocks: list[NDArray[np.float32]] = []
    num_read = 0
    while num_read < wanted:
        block_LC = file.read(min(_BLOCK_VALUES // channels, wanted - num_read), dtype="float32", always_2d=True)
        if not len(block_LC):
            break
        blocks.append(block_LC.mean(axis=1, dtype=np.float32))
        num_read += len(block_LC)
    if num_read < file.frames and num_read < wanted and file.format == "FLAC":
        raise AudioError(
            f"{path} is cut off: its header says {file.frames:,} samples, {num_read:,} are there: copy it again"
        )
    if num_read > most:
        limit = most / rate_hz if max_s is None else max_s
        claimed_s = max(file.frames, num_read) / rate_hz
        raise AudioError(f"{path} is {claimed_s:.1f} s long: cut it to at most {limit:g} s")
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def resample(pcm_L: NDArray[np.float32], from_rate_hz: int, to_rate_hz: int) -> NDArray[np.float32]:
    """Resample mono audio; returns the input if the rates are equal."""
    if from_rate_hz == to_rate_hz:
        return pcm_L
    resampled: NDArray[np.float32] = soxr.resample(pcm_L, from_rate_hz, to_rate_hz).astype(np.float32)
    return resampled


def write_audio(path: str | Path, pcm_L: NDArray[np.floating[Any]], sample_rate_hz: int) -> None:
    """Write mono audio in the format of the suffix: 16-bit WAV or FLAC, or Ogg Vorbis. Samples are clipped to -1 … 1.

    The file appears under its name only when it is complete: it is written under a temporary name in the same
    folder, then renamed. Raises AudioError and leaves no file if the suffix is unknown, the folder is missing or the
    write fails, as on a full disk.
    """
    path = Path(path)
    file_format, subtype = _require_known_suffix(path)
    if pcm_L.ndim != 1:
        raise AudioError(f"{path}: audio of {pcm_L.ndim} dimensions cannot be written, only one channel of samples")
    if not np.isfinite(pcm_L).all():
        raise AudioError(f"{path}: the audio holds samples that are not numbers, so it was not written")
    clipped_L = np.clip(pcm_L, -1, 1).astype(np.float32)
    try:
        partial = PartialFile(path)
    except OSError as error:
        raise AudioError(
            f"{path} cannot be written ({_reason(error)}): choose a folder that exists and is yours"
        ) from None
    try:
        name = os.fsencode(partial.path)
        soundfile.write(name, clipped_L, sample_rate_hz, format=file_format, subtype=subtype)
        partial.keep()
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be written ({_reason(error)}): is the disk full?") from None
    finally:
        partial.drop()


def require_writable(path: str | Path) -> None:
    """Raise AudioError if `write_audio` could not write the file: unknown suffix, or no such folder."""
    path = Path(path)
    _require_known_suffix(path)
    try:
        special = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise AudioError(f"{str(path)[:200]} cannot be written ({_reason(error)}): choose another name") from None
    if special and not path.is_dir():
        raise AudioError(f"{path} is a pipe or a device, not a file: `--stream -o -` writes samples to a pipe")
    if special or not os.access(path.parent, os.W_OK | os.X_OK):
        raise AudioError(f"{path} cannot be written: choose a file name in a folder that exists and is yours")


def _require_known_suffix(path: Path) -> tuple[str, str]:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise AudioError(f"{path} has the suffix {path.suffix!r}: use one of {', '.join(FORMATS)}") from None


def _reason(error: Exception) -> str:
    """The system's or the library's message of an error, on one line."""
    words = getattr(error, "error_string", None)
    return str(words).strip().rstrip(".") if words else reason_of(error)
