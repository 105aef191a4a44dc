"""16-bit PCM samples and the header of a WAV file.

L samples
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 44
_UNKNOWN = 0xFFFFFFFF


def to_int16(pcm_L: NDArray[np.float32]) -> NDArray[np.int16]:
    """16-bit little-endian samples, rounded as in libsndfile, so that a stream's file equals `write_audio`'s."""
    samples_L: NDArray[np.int16] = np.floor(pcm_L * np.float32(32768)).clip(-32768, 32767).astype("<i2")
    return samples_L


def wav_header(sample_rate_hz: int, num_samples: int | None = None) -> bytes:
    """The 44 bytes before mono 16-bit samples.

    Without `num_samples` both sizes are 0xFFFFFFFF, the value that players interpret as a stream of unknown length.
    """
    num_bytes = _UNKNOWN if num_samples is None else 2 * num_samples
    riff_bytes = _UNKNOWN if num_samples is None else num_bytes + HEADER_BYTES - 8
    chunk = (b"fmt ", 16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", riff_bytes, b"WAVE", *chunk, b"data", num_bytes)
