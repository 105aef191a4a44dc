"""`unimoe synth --stream`, `-o -` and their interruptions, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.command_line import PACKAGE_ROOTS, assert_one_line, run
from tests.speaking_bundle import write_speaking_bundle

LONG_REQUEST = ("--task", "music", "--text", "flute, 80 bpm: C4 E4 G4 C5 G4 E4 C4 E4", "--seed", "3")
REQUEST = ("--task", "music", "--text", "flute, 120 bpm: C4 E4 G4 C5 G4 E4", "--seed", "3")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("speaking"))


def start(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "unimoe.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": PACKAGE_ROOTS, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        # Tests in a shell's background ignore Ctrl-C, and the processes that they start would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.mark.slow
def test_file_stream_and_pipe_hold_the_same(bundle: Path, tmp_path: Path) -> None:
    assert run("synth", bundle, *REQUEST, "-o", tmp_path / "whole.wav").returncode == 0
    streamed = run("synth", bundle, *REQUEST, "--stream", "-o", tmp_path / "stream.wav", "--warm", "--json")
    assert streamed.returncode == 0, streamed.stderr
    assert "every graph loaded in" in streamed.stderr
    figures = json.loads(streamed.stdout)
    assert figures["first_audio_s"] < figures["prefill_s"] + figures["decode_s"]
    with start("synth", bundle, *REQUEST, "-o", "-") as piped:
        samples, shown = piped.communicate()
    assert b"s of audio" in shown
    whole_L, _ = soundfile.read(tmp_path / "whole.wav", dtype="int16")
    stream_L, _ = soundfile.read(tmp_path / "stream.wav", dtype="int16")
    pipe_L = np.frombuffer(samples, "<i2")
    for found_L in (stream_L, pipe_L):
        assert len(found_L) == len(whole_L)
        assert np.abs(found_L.astype(int) - whole_L).max() <= 1, "one unit: 1e-5 may lie across a step of 16 bits"


def test_ctrl_c_leaves_a_whole_file_with_what_there_was(bundle: Path, tmp_path: Path) -> None:
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with start(
            "synth", bundle, *LONG_REQUEST, "--stream", "--chunk-frames", "1", "-o", folder / "a.wav"
        ) as process:
            while process.poll() is None and not any(path.stat().st_size > 44 for path in folder.iterdir()):
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            shown, problems = process.communicate(timeout=60)
        if process.returncode:
            break  # else the command ended before the signal, as on a busy machine: try again
    assert process.returncode == 130, problems
    assert b"stopped by hand" in shown
    assert [path.name for path in folder.iterdir()] == ["a.wav"]
    assert soundfile.info(folder / "a.wav").frames > 0


def test_a_time_limit_leaves_a_whole_file_or_says_why_not(bundle: Path, tmp_path: Path) -> None:
    assert_one_line(
        run("synth", bundle, *REQUEST, "--stream", "--timeout", "0.0001", "-o", tmp_path / "a.wav"), "no audio within"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_is_one_line(bundle: Path) -> None:
    with start("synth", bundle, *REQUEST, "-o", "-", "--chunk-frames", "1") as process:
        assert process.stdout is not None and process.stderr is not None
        os.read(process.stdout.fileno(), 64)
        process.stdout.close()
        problems = process.stderr.read().decode()
    assert process.returncode == 1
    assert "its reader is gone" in problems and problems.count("\n") == 1, problems


@pytest.mark.slow
def test_what_cannot_be_streamed_is_said(bundle: Path, tmp_path: Path) -> None:
    assert_one_line(run("synth", bundle, *REQUEST, "--stream", "-o", tmp_path / "a.flac"), "ends in .wav")
    for arguments in ((), ("--chunk-frames", "2,0", "-o", "-"), ("--chunk-frames", "two", "-o", "-")):
        assert run("synth", bundle, *REQUEST, *arguments).returncode == 2
    assert list(tmp_path.iterdir()) == []
