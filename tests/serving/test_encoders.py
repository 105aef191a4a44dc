"""Every format for any chunks, decoded by PyAV and libsndfile and compared with the input samples."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe_runtime.audio.wav import to_int16
from unimoe_serving.encoders import FORMATS, AudioFormat, open_encoder
from unimoe_serving.errors import RequestError

TONE_L = (0.5 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype(np.float32)


def encode(audio: AudioFormat, sizes: list[int], pcm_L: np.ndarray = TONE_L) -> list[bytes]:
    """The bytes after each chunk, then the remaining bytes."""
    encoder = open_encoder(audio, 16000)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(encoder.encode(pcm_L[at : at + size]))
        at += size
    pieces += [encoder.encode(pcm_L[at:]), encoder.finish()]
    encoder.close()
    return pieces


def decode(audio: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(audio), "r") as container:
        resampler = av.AudioResampler(format="s16", layout="mono")
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].sample_rate


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), max_size=6), name=st.sampled_from(["wav", "flac", "pcm"]))
def test_lossless_formats_give_the_samples_whatever_the_chunks(sizes: list[int], name: str) -> None:
    encoded = b"".join(encode(AudioFormat(name=name, sample_rate_hz=16000), sizes))
    samples = np.frombuffer(encoded, "<i2") if name == "pcm" else decode(encoded)[0]
    np.testing.assert_array_equal(samples, to_int16(TONE_L))


@pytest.mark.parametrize("name", ["mp3", "opus", "aac"])
def test_lossy_formats_sound_alike(name: str) -> None:
    samples, rate_hz = decode(b"".join(encode(AudioFormat(name=name), [640, 1280])))
    assert rate_hz in (16000, 48000)  # Opus always decodes at 48 kHz
    step = rate_hz // 16000
    tone_L = np.repeat(TONE_L, step) * 32768
    middle = samples[len(samples) // 3 : 2 * len(samples) // 3].astype(np.float64)
    loudness = np.sqrt((middle**2).mean()) / np.sqrt((tone_L**2).mean())
    assert 0.8 < loudness < 1.2
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(spectrum.argmax() * rate_hz / len(middle) - 440) < 3


@pytest.mark.parametrize(("name", "chunks"), [("wav", 1), ("pcm", 1), ("flac", 1), ("opus", 1), ("mp3", 2), ("aac", 4)])
def test_bytes_leave_early(name: str, chunks: int) -> None:
    """Bytes come with the first chunk of 40 ms, except for the delay of an encoder's own frames."""
    pieces = encode(AudioFormat(name=name), [640] * 8)
    assert any(pieces[:chunks])
    assert all(pieces[4:8:2]) or name == "aac"


HEADERS = {"wav": b"RIFF", "flac": b"fLaC", "opus": b"OggS", "mp3": b"ID3", "pcm": b"", "aac": b""}


@pytest.mark.parametrize("name", FORMATS)
def test_no_audio_gives_the_header_alone(name: str) -> None:
    encoded = b"".join(encode(AudioFormat(name=name), [], TONE_L[:0]))
    assert encoded.startswith(HEADERS[name])
    assert len(encoded) < 200 if HEADERS[name] else not encoded


def test_rates() -> None:
    assert AudioFormat(name="pcm").rate_hz(16000) == 24000
    assert AudioFormat(name="wav").rate_hz(16000) == 16000
    assert AudioFormat(name="opus").rate_hz(32000) == 48000
    assert AudioFormat(name="opus").rate_hz(44100) == 48000
    assert AudioFormat(name="aac", sample_rate_hz=48000).rate_hz(16000) == 48000
    with pytest.raises(RequestError, match="mp3 has no 96000 Hz"):
        AudioFormat(name="mp3", sample_rate_hz=96000).rate_hz(16000)


def test_another_rate_keeps_the_tone() -> None:
    pieces = encode(AudioFormat(name="wav", sample_rate_hz=24000), [640, 1280, 2560])
    samples, rate_hz = soundfile.read(io.BytesIO(sized(b"".join(pieces))), dtype="float32")
    assert rate_hz == 24000 and len(samples) == 24000
    expected = 0.5 * np.sin(np.arange(24000) * 2 * np.pi * 440 / 24000)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=2e-3)


def sized(wav: bytes) -> bytes:
    """A WAV file with its true sizes, which libsndfile requires."""
    count = len(wav) - 44
    return wav[:4] + (count + 36).to_bytes(4, "little") + wav[8:40] + count.to_bytes(4, "little") + wav[44:]
