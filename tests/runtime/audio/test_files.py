"""Reading and writing audio files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unimoe_runtime.audio import files as audio
from unimoe_runtime.errors import AudioError


def sine(frequency_hz: float, rate_hz: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def peak_hz(pcm_L: np.ndarray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(pcm_L * np.hanning(len(pcm_L)))).argmax() * rate_hz / len(pcm_L))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".wav", 1e-4), (".flac", 1e-4), (".OGG", 0.05)])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, tolerance: float) -> None:
    pcm_L = sine(440, 16000)
    audio.write_audio(tmp_path / f"a{suffix}", pcm_L, 16000)
    back_L = audio.read_audio(tmp_path / f"a{suffix}", 16000)
    assert back_L.dtype == np.float32 and back_L.shape == pcm_L.shape
    assert np.abs(back_L - pcm_L).max() < tolerance
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_too_long_a_file_is_not_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440, 16000, 1.5), 16000)
    assert len(audio.read_audio(tmp_path / "a.wav", 16000, max_s=1.5)) == 24000
    with pytest.raises(AudioError, match=r"is 1.5 s long: cut it to at most 1.4 s"):
        audio.read_audio(tmp_path / "a.wav", 16000, max_s=1.4)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000])
def test_resampling_keeps_length_and_frequency(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440, rate_hz, 1.0), rate_hz)
    pcm_L = audio.read_audio(tmp_path / "a.wav", 16000)
    assert abs(len(pcm_L) - 16000) <= 1
    assert peak_hz(pcm_L, 16000) == pytest.approx(440, abs=1)


def test_resampling_does_not_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(11000, 48000), 48000)
    assert np.abs(audio.read_audio(tmp_path / "a.wav", 16000)[200:-200]).max() < 1e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    left_L, right_L = sine(300, 16000), sine(500, 16000)
    soundfile.write(tmp_path / "a.wav", np.stack([left_L, right_L], axis=1), 16000, subtype="FLOAT")
    assert audio.read_audio(tmp_path / "a.wav", 16000) == pytest.approx((left_L + right_L) / 2, abs=1e-6)


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".aiff", ".au", ".caf", ".w64"])
def test_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".opus":
        soundfile.write(path, sine(440, 48000), 48000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, sine(440, 48000), 48000)
    pcm_L = audio.read_audio(path, 16000)
    assert len(pcm_L) == pytest.approx(8000, abs=1000) and peak_hz(pcm_L, 16000) == pytest.approx(440, abs=3)


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    audio.write_audio(tmp_path / "a.wav", np.array([2.0, -2.0, 0.0]), 16000)
    assert audio.read_audio(tmp_path / "a.wav", 16000) == pytest.approx([1, -1, 0], abs=1e-4)


def test_a_file_that_is_replaced_is_whole(tmp_path: Path) -> None:
    for seconds in (0.5, 0.1):
        audio.write_audio(tmp_path / "a.wav", sine(440, 16000, seconds), 16000)
    assert len(audio.read_audio(tmp_path / "a.wav", 16000)) == 1600


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), soundfile.LibsndfileError(2)])
def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(partial: bytes, *_: object, **__: object) -> None:
        Path(os.fsdecode(partial)).write_bytes(b"half")
        raise error

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(AudioError, match=r"a\.wav cannot be written"):
        audio.write_audio(tmp_path / "a.wav", sine(440, 16000), 16000)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio.write_audio(tmp_path / "a.wav", sine(440, 16000), 16000)
    before = (tmp_path / "a.wav").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(AudioError, match="No space left on device"):
        audio.write_audio(tmp_path / "a.wav", sine(220, 16000), 16000)
    assert (tmp_path / "a.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"this is no audio at all", "cannot be read as audio"),
        ("a.flac", b"", "empty file"),
        ("a.mp4", b"RIFF", "suffix '.mp4'"),
        ("a", b"RIFF", "suffix ''"),
    ],
)
def test_bad_files_have_one_line_errors(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        audio.read_audio(tmp_path / name, 16000)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_missing_and_silent_files(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is not a file"):
        audio.read_audio(tmp_path / "a.wav", 16000)
    with pytest.raises(AudioError, match="is not a file"):
        (tmp_path / "folder.wav").mkdir()
        audio.read_audio(tmp_path / "folder.wav", 16000)
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match="holds no samples"):
        audio.read_audio(tmp_path / "b.wav", 16000)


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    broken_L = np.array([0.0, np.nan], dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", broken_L, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not numbers"):
        audio.read_audio(tmp_path / "a.wav", 16000)
    with pytest.raises(AudioError, match="not numbers"):
        audio.write_audio(tmp_path / "b.wav", broken_L, 16000)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize(
    ("path", "shape", "message"),
    [("no/a.wav", 8, "choose a folder"), ("a.xyz", 8, "suffix '.xyz'"), ("a.wav", (8, 2), "2 dimensions")],
)
def test_writes_that_cannot_work(tmp_path: Path, path: str, shape: int | tuple[int, int], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        audio.write_audio(tmp_path / path, np.zeros(shape), 16000)
    assert list(tmp_path.iterdir()) == []


def claimed_flac(path: Path) -> Path:
    """A FLAC file of 8,000 samples whose header claims 2^36 - 1."""
    soundfile.write(path, 0.3 * np.sin(np.arange(8_000) / 9), 16_000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    return path


def test_a_header_decides_nothing(tmp_path: Path) -> None:
    """A claimed length is neither trusted nor allocated."""
    with pytest.raises(AudioError, match="cannot be read as audio"):
        audio.read_audio(claimed_flac(tmp_path / "claims.flac"), 16_000)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(16_000 * 8), 16_000)
    assert len(audio.read_audio(long, 8_000, first_s=2.0)) == 16_000
    with pytest.raises(AudioError, match=r"is 8\.0 s long: cut it to at most 7 s"):
        audio.read_audio(long, 16_000, max_s=7)
    assert len(audio.read_audio(long, 16_000, max_s=8)) == 16_000 * 8


@pytest.mark.parametrize("rate_hz", [1, 999, 2_000_000_000])
def test_a_rate_that_no_recording_has(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.ones(100) / 2, 16_000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate_hz.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(AudioError, match="samples a second"):
        audio.read_audio(path, 16_000)


def test_a_voice_is_heard(tmp_path: Path) -> None:
    for name, samples_L, message in (
        ("silent", np.zeros(8_000), "is silent"), ("short", np.ones(1), "give a recording of at least"),
    ):  # fmt: skip
        soundfile.write(tmp_path / f"{name}.wav", samples_L, 16_000)
        with pytest.raises(AudioError, match=message):
            audio.read_voice(tmp_path / f"{name}.wav", 16_000)
