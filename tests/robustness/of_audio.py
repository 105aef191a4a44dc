"""Recordings with false headers, used for cloning and calibration."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import numpy as np
import soundfile

from tests.robustness.bases import CLONED, Bases
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_text


def _wav(
    rate_hz: int, samples_L: np.ndarray, *, claimed: int | None = None, channels: int = 1, bits: int = 16
) -> bytes:
    data = samples_L.astype("<i2").tobytes()
    size = len(data) if claimed is None else claimed
    block = channels * bits // 8
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", min(size + 36, 2**32 - 1), b"WAVE", b"fmt ", 16, 1, channels & 0xFFFF, rate_hz,
        rate_hz * block & 0xFFFFFFFF, block & 0xFFFF, bits, b"data", size & 0xFFFFFFFF,
    ) + data  # fmt: skip


def recording(bases: Bases, folder: Path, rng: random.Random) -> Case:
    tone_L = 8_000 * np.sin(np.arange(8_000) / 9)
    suffix, free = ".wav", False
    match rng.randrange(9):
        case 0:
            rate = rng.choice((1, 10, 2_000_000_000, 2**32 - 1, 0))
            what, content = f"{rate} Hz", _wav(rate, tone_L)
        case 1:
            what, content = "claims 2^32 bytes", _wav(16_000, tone_L, claimed=2**32 - 1)
            free = True
        case 2:
            channels = rng.choice((0, 2, 1024, 65_535))
            what, content = f"{channels} channels", _wav(16_000, tone_L, channels=channels)
            free = channels == 2
        case 3:
            buffer = io.BytesIO()
            soundfile.write(buffer, tone_L / 32_768, 16_000, format="FLAC")
            raw = bytearray(buffer.getvalue())
            raw[21] |= 0x0F  # the upper bits of 36 that count the samples
            raw[22:26] = b"\xff\xff\xff\xff"
            what, suffix, content = "FLAC of 2^36 samples", ".flac", bytes(raw)
        case 4:
            what, content = "silence", _wav(16_000, np.zeros(8_000))
        case 5:
            what, content = "one sample", _wav(16_000, tone_L[1:2])
        case 6:
            buffer = io.BytesIO()
            values = np.array([0.1, float("nan"), float("inf")] * 900, np.float32)
            soundfile.write(buffer, values, 16_000, format="WAV", subtype="FLOAT")
            what, content = "no numbers", buffer.getvalue()
        case 7:
            buffer = io.BytesIO()
            kind = rng.choice(("FLAC", "OGG", "WAV", "MP3"))
            soundfile.write(buffer, tone_L / 32_768, 16_000, format=kind)
            raw, suffix = bytearray(buffer.getvalue()), f".{kind.lower()}"
            for _ in range(rng.choice((1, 8, 64))):
                raw[rng.randrange(min(len(raw), 200))] = rng.randrange(256)
            what, content, free = f"{kind} with other bytes", bytes(raw), True
        case _:
            what, content = damage_text(_wav(16_000, tone_L), rng)
            free = True
    path = folder / f"voice{suffix}"
    path.write_bytes(content)
    out = folder / "out.wav"
    if rng.random() < 0.7:
        argv: tuple[str, ...] = (
            "synth", str(bases.published), "--voice", str(path), *CLONED, "--seed", "3", "-o", str(out),
        )  # fmt: skip
        return Case(format="recordings", what=what, argv=argv, audio=out, reference=(), free=free, folder=folder)
    data = folder / "data"
    data.mkdir()
    path.rename(data / path.name)
    (data / "voice.txt").write_text("hello")
    argv = ("calibrate", str(bases.bundle), str(folder / "made"), "--data", str(data), "--floor", "1", "--cache",
            str(folder / "cache"))  # fmt: skip
    return Case(format="recordings", what=f"{what}, to calibrate with", argv=argv, free=True, folder=folder)


MUTATORS: dict[str, tuple[Mutator, int]] = {"recordings": (recording, 10)}
