"""A recording that was cut off is refused; one of unknown length, as programs write it into pipes, is read."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unimoe_runtime.audio.files import read_audio
from unimoe_runtime.audio.headers import samples_end
from unimoe_runtime.errors import AudioError

TONE_L = 0.3 * np.sin(np.arange(16_000) / 9)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "FLAC"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, format: str, share: float) -> None:
    path = tmp_path / f"voice.{format.lower()}"
    soundfile.write(path, TONE_L, 16_000, format=format)
    assert len(read_audio(path, 16_000)) == 16_000
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"cut off|cannot be read"):
        read_audio(path, 16_000)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_an_unknown_length_is_no_lie(tmp_path: Path, size: int) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, TONE_L, 16_000)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert samples_end(path) == 0


def test_chunks_that_lead_nowhere_end(tmp_path: Path) -> None:
    path = tmp_path / "chunks.wav"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 100_000)
    assert samples_end(path) == 0
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff")
    assert samples_end(path) == 0
