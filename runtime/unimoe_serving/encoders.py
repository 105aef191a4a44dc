"""Encode samples into an audio format as they arrive, without a file and without seeking.

WAV and PCM hold the plain samples; FLAC, MP3, Opus and AAC go through PyAV (FFmpeg's libraries). Each chunk gives bytes
as far as the format's own frames allow.

L samples
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from unimoe_runtime import wav_header
from unimoe_runtime.audio.wav import to_int16
from unimoe_serving.errors import RequestError

Floats = NDArray[np.float32]

OPENAI_PCM_RATE_HZ = 24_000
"""OpenAI's `pcm` has no header and always this rate; clients rely on it."""


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A compressed format by FFmpeg's names. `rates_hz`: the rates that its encoder supports; empty for any."""

    container: str
    codec: str
    bit_rate: int | None = None
    rates_hz: tuple[int, ...] = ()
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


_COMPRESSED = {
    # Blocks shorter than the default, so that the first chunk fills one; no space reserved for tags, as there are none.
    "flac": Compressed(
        container="flac", codec="flac",
        codec_options={"frame_size": "512"}, container_options={"metadata_header_padding": "0"},
    ),
    "mp3": Compressed(
        container="mp3", codec="libmp3lame", bit_rate=96_000,
        rates_hz=(8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        codec_options={"reservoir": "0"}, container_options={"write_xing": "0"},
    ),
    "opus": Compressed(
        container="ogg", codec="libopus", bit_rate=48_000, rates_hz=(8000, 12_000, 16_000, 24_000, 48_000),
        container_options={"page_duration": "20000"},
    ),
    "aac": Compressed(
        container="adts", codec="aac", bit_rate=96_000,
        rates_hz=(8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
    ),
}  # fmt: skip

FORMATS = ("wav", "pcm", *_COMPRESSED)
_MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg; codecs=opus"}


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """The audio that a request asks for: format and rate. None is the bundle's rate (for `pcm`, OpenAI's)."""

    name: str = "mp3"
    sample_rate_hz: int | None = None

    def rate_hz(self, source_rate_hz: int) -> int:
        """The output rate, given the bundle's. Raises RequestError if the format does not support it."""
        compressed = _COMPRESSED.get(self.name)
        rates_hz = compressed.rates_hz if compressed else ()
        if self.sample_rate_hz is not None:
            if rates_hz and self.sample_rate_hz not in rates_hz:
                raise RequestError(
                    f"{self.name} has no {self.sample_rate_hz} Hz; it has {', '.join(map(str, rates_hz))}",
                    param="sample_rate_hz", code="invalid_value",
                )  # fmt: skip
            return self.sample_rate_hz
        if self.name == "pcm":
            return OPENAI_PCM_RATE_HZ
        if not rates_hz or source_rate_hz in rates_hz:
            return source_rate_hz
        return min((rate for rate in rates_hz if rate > source_rate_hz), default=max(rates_hz))

    def media_type(self, rate_hz: int) -> str:
        """The value of `content-type`."""
        if self.name == "pcm":
            return f"audio/pcm; rate={rate_hz}; channels=1; encoding=signed-int; bits=16"
        return _MEDIA_TYPES.get(self.name, f"audio/{self.name}")


class Encoder(Protocol):
    """Converts chunks of samples to bytes."""

    def encode(self, pcm_L: Floats) -> bytes:
        """The bytes that are ready with these samples."""

    def finish(self) -> bytes:
        """The remaining bytes, after the last samples."""
        ...

    def close(self) -> None:
        """Free its resources, whether it finished or not."""


def open_encoder(audio: AudioFormat, source_rate_hz: int) -> Encoder:
    """An encoder for samples at `source_rate_hz`."""
    rate_hz = audio.rate_hz(source_rate_hz)
    compressed = _COMPRESSED.get(audio.name)
    encoder: Encoder
    if compressed is not None:
        encoder = _CompressedEncoder(compressed, rate_hz)
    else:
        encoder = _PlainEncoder(wav_header(rate_hz) if audio.name == "wav" else b"")
    return encoder if rate_hz == source_rate_hz else _ResamplingEncoder(encoder, source_rate_hz, rate_hz)


class _PlainEncoder:
    """16-bit samples after a header."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def encode(self, pcm_L: Floats) -> bytes:
        header, self._header = self._header, b""
        return header + to_int16(pcm_L).tobytes()

    def finish(self) -> bytes:
        return self._header

    def close(self) -> None:
        """Nothing to free."""


class _ResamplingEncoder:
    """A resampler that keeps its state from chunk to chunk, in front of another encoder."""

    def __init__(self, encoder: Encoder, from_rate_hz: int, to_rate_hz: int) -> None:
        self._encoder = encoder
        self._resampler = soxr.ResampleStream(from_rate_hz, to_rate_hz, 1, dtype="float32")

    def encode(self, pcm_L: Floats) -> bytes:
        return self._encoder.encode(self._resampler.resample_chunk(pcm_L))

    def finish(self) -> bytes:
        rest_L = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return self._encoder.encode(rest_L) + self._encoder.finish()

    def close(self) -> None:
        self._encoder.close()


class _Pipe:
    """A file object that FFmpeg writes to: bytes are taken out as they arrive, without seeking."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        written, self._written = bytes(self._written), bytearray()
        return written


class _CompressedEncoder:
    """One of FFmpeg's encoders in its container."""

    def __init__(self, compressed: Compressed, rate_hz: int) -> None:
        import av  # importing it takes longer than making the first chunk

        self._pipe = _Pipe()
        self._container: Any = av.open(
            self._pipe, "w", format=compressed.container,
            options={"flush_packets": "1", **compressed.container_options},
        )  # fmt: skip
        stream: Any = self._container.add_stream(
            compressed.codec, rate=rate_hz, layout="mono", options=dict(compressed.codec_options)
        )
        if compressed.bit_rate is not None:
            stream.bit_rate = compressed.bit_rate
        self._stream = stream
        self._container.start_encoding()
        self._rate_hz, self._num_samples, self._frame = rate_hz, 0, av.AudioFrame

    def encode(self, pcm_L: Floats) -> bytes:
        if len(pcm_L):
            frame = self._frame.from_ndarray(to_int16(pcm_L)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = self._rate_hz, self._num_samples
            frame.time_base = Fraction(1, self._rate_hz)
            self._num_samples += len(pcm_L)
            self._container.mux(self._stream.encode(frame))
        return self._pipe.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._pipe.take()

    def close(self) -> None:
        self._container.close()
