"""Audio and pictures as data URIs, for a page that needs no other file.

Shape suffixes: L samples, T frames, M mel bands.
"""

from __future__ import annotations

import base64
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import soundfile

from unimoe_runtime.audio.log_mel import log_mel

_OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
_BANDS, _RANGE_DB = 80, 70.0
# From quiet to loud, evenly spaced; colours between them are interpolated.
_PALETTE = ((13, 8, 35), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


def audio_uri(pcm_L: np.ndarray, sample_rate_hz: int) -> str:
    """Opus where it supports the rate, about 4 kB a second; else 16-bit WAV."""
    opus = sample_rate_hz in _OPUS_RATES_HZ
    samples_L = np.clip(np.asarray(pcm_L, np.float32), -1, 1)
    kind = {"format": "OGG", "subtype": "OPUS"} if opus else {"format": "WAV", "subtype": "PCM_16"}
    # A file on the disk: libsndfile writes to a Python object by callbacks, which lose the exception of a signal.
    # The `__del__` of a NamedTemporaryFile would lose it too.
    handle, name = tempfile.mkstemp(prefix="unimoe-audio-")
    try:
        os.close(handle)
        with _File(name, "w", sample_rate_hz, 1, **kind) as file:
            file.write(samples_L)
        return _uri("audio/ogg" if opus else "audio/wav", Path(name).read_bytes())
    finally:
        os.unlink(name)


class _File(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that `with` closes. A finalizer in Python, as soundfile's, would lose the exception of a signal."""

    __del__ = staticmethod(tuple)  # any function in C that does nothing


def spectrogram_uri(pcm_L: np.ndarray, sample_rate_hz: int) -> str:
    """A PNG of the log-mel spectrum: 80 bands high, a column every 16 ms, down to 70 dB below the loudest value."""
    mel_TM = log_mel(pcm_L, sample_rate_hz, num_bands=_BANDS, window_s=0.064)
    depth = _RANGE_DB / (10 / np.log(10))
    shade_TM = np.clip((mel_TM - mel_TM.max()) / depth + 1, 0, 1)
    return _uri("image/png", _png(np.round(255 * shade_TM).astype(np.uint8).T[::-1]))


def _png(pixels: np.ndarray) -> bytes:
    """A PNG of palette indices [rows, columns] (RFC 2083)."""
    height, width = pixels.shape
    places = np.linspace(0, len(_PALETTE) - 1, 256)
    palette = np.stack(
        [np.interp(places, np.arange(len(_PALETTE)), channel) for channel in zip(*_PALETTE, strict=True)]
    )
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # filter type 0 (none) begins each row
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", np.round(palette.T).astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
              for name, data in parts)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
