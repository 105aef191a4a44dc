"""16-bit samples and the header of a WAV file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from unimoe_runtime.audio.wav import HEADER_BYTES, to_int16, wav_header


def test_samples_are_rounded_as_libsndfile_rounds_them() -> None:
    pcm_L = np.random.default_rng(0).uniform(-1.2, 1.2, 10_000).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(pcm_L, -1, 1), 16_000, format="WAV", subtype="PCM_16")
    assert buffer.getvalue()[-20_000:] == to_int16(pcm_L).tobytes()


@pytest.mark.parametrize("num_samples", [0, 1, 16_000])
def test_a_header_and_samples_are_a_file(num_samples: int) -> None:
    samples_L = to_int16(np.linspace(-1, 1, num_samples, dtype=np.float32))
    content = wav_header(24_000, num_samples) + samples_L.tobytes()
    assert len(wav_header(24_000, num_samples)) == HEADER_BYTES
    found_L, rate_hz = soundfile.read(io.BytesIO(content), dtype="int16")
    assert rate_hz == 24_000 and np.array_equal(found_L, samples_L)


def test_an_unknown_length_has_the_largest_sizes() -> None:
    header = wav_header(24_000)
    assert header[4:8] == header[40:44] == b"\xff" * 4
