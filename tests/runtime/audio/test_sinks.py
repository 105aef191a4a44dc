"""Destinations of streamed samples: files that are valid at any moment, pipes that close, missing loudspeakers."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from unimoe_runtime.audio.files import write_audio
from unimoe_runtime.audio.sinks import PipeSink, PlaySink, WavSink
from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.errors import AudioError, OutputError

RATE_HZ = 16000
PCM_L = (0.9 * np.sin(np.arange(1000) / 7)).astype(np.float32)


def partial_file(folder: Path) -> Path:
    [path] = [path for path in folder.iterdir() if path.name.startswith(".")]
    return path


def test_the_file_is_valid_after_every_chunk(tmp_path: Path) -> None:
    with WavSink(tmp_path / "a.wav", RATE_HZ) as sink:
        for end in (300, 301, 1000):
            begin = 0 if end == 300 else soundfile.info(partial_file(tmp_path)).frames
            sink.write(PCM_L[begin:end])
            pcm_L, rate_hz = soundfile.read(partial_file(tmp_path))
            assert rate_hz == RATE_HZ and len(pcm_L) == end
        assert not (tmp_path / "a.wav").exists()
        sink.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").stat().st_mode & 0o044 == 0o044 & ~os.umask(os.umask(0))


def test_a_signal_between_samples_and_header_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> bytes:
        raise KeyboardInterrupt

    with WavSink(tmp_path / "a.wav", RATE_HZ) as sink:
        sink.write(PCM_L[:300])
        with monkeypatch.context() as patch:
            patch.setattr("unimoe_runtime.audio.sinks.wav_header", stopped)
            with pytest.raises(KeyboardInterrupt):
                sink.write(PCM_L[300:])
        sink.finish()
    assert soundfile.info(tmp_path / "a.wav").frames == 1000


def test_it_is_the_file_that_writing_at_once_gives(tmp_path: Path) -> None:
    loud_L = np.concatenate([PCM_L, 3 * PCM_L, [1, -1, 0]]).astype(np.float32)
    write_audio(tmp_path / "whole.wav", loud_L, RATE_HZ)
    with WavSink(tmp_path / "stream.wav", RATE_HZ) as sink:
        for piece_L in np.array_split(loud_L, 5):
            sink.write(piece_L)
        sink.finish()
    assert (tmp_path / "stream.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError), WavSink(tmp_path / "a.wav", RATE_HZ) as sink:
        sink.write(PCM_L)
        raise ZeroDivisionError
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_no_more_room_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with WavSink(tmp_path / "a.wav", RATE_HZ) as sink:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(AudioError, match=r"a\.wav cannot be written \(File too large\)"):
                sink.write(PCM_L)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(AudioError, match="No such file or directory"):
        WavSink(tmp_path / "no" / "a.wav", RATE_HZ)
    with pytest.raises(AudioError, match=r"a name that ends in \.wav"):
        WavSink(tmp_path / "a.flac", RATE_HZ)


def test_a_pipe_gets_raw_samples_until_its_reader_goes() -> None:
    reader, writer = os.pipe()
    with FileIO(writer, "wb") as pipe, PipeSink(pipe) as sink:
        sink.write(PCM_L[:500])
        sink.write(PCM_L[500:])
        sink.finish()
        assert os.read(reader, 4000) == to_int16(PCM_L).tobytes()
        os.close(reader)
        with pytest.raises(OutputError, match="its reader is gone"):
            sink.write(PCM_L)


class Device:
    """Takes samples in real time, as a loudspeaker's driver does. `broken`: the number of writes before it fails."""

    def __init__(self, broken_after: int = 1000, **_: Any) -> None:
        self.written: list[np.ndarray] = []
        self.state, self._broken_after = "made", broken_after

    def start(self) -> None:
        self.state = "started"

    def write(self, pcm_LC: np.ndarray) -> bool:
        if len(self.written) == self._broken_after or self.state == "aborted":
            raise RuntimeError("device unplugged")
        time.sleep(len(pcm_LC) / RATE_HZ / 10)
        self.written.append(pcm_LC[:, 0])
        return len(self.written) in (1, 3)

    def stop(self) -> None:
        self.state = "stopped"

    def abort(self) -> None:
        self.state = "aborted"

    def close(self) -> None:
        self.state += ", closed"


def install(monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Device]:
    """Install a sounddevice module with these devices."""
    devices: list[Device] = []

    def open_device(**arguments: Any) -> Device:
        devices.append(Device(**options, **arguments))
        return devices[-1]

    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(OutputStream=open_device, PortAudioError=RuntimeError)
    )
    return devices


def test_everything_is_played_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    [*_] = devices = install(monkeypatch)
    with PlaySink(RATE_HZ) as sink:
        for piece_L in np.array_split(PCM_L, 10):
            sink.write(piece_L)
        sink.finish()
        assert devices[0].state == "stopped"
    np.testing.assert_array_equal(np.concatenate(devices[0].written), PCM_L)
    assert sink.underruns == 1, "the first write of a device always finds it empty"


def test_playing_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = install(monkeypatch)
    threads = threading.active_count()
    with PlaySink(RATE_HZ) as sink:
        for _ in range(5):
            sink.write(np.zeros(1600, np.float32))
    assert devices[0].state == "aborted, closed" and len(devices[0].written) < 5
    assert threading.active_count() == threads


def test_a_device_that_goes_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, broken_after=1)
    with PlaySink(RATE_HZ) as sink, pytest.raises(AudioError, match="device unplugged"):
        for _ in range(20):
            sink.write(PCM_L[:10])


def test_nothing_to_play_on_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(**_: Any) -> None:
        raise RuntimeError("no default device")

    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(OutputStream=no_device, PortAudioError=RuntimeError)
    )
    with pytest.raises(AudioError, match="nothing to play on"):
        PlaySink(RATE_HZ)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"pip install .*\[play\]"):
        PlaySink(RATE_HZ)
