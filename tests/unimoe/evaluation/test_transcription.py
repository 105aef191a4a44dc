"""Simultaneous notes: the notes found in chords, and the count of frames."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe.data.melodies import Note
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.transcription import NO_FRAMES, FrameScore, Transcriber, score_frames

RATE_HZ = 16000


def chord(*pitches: int, seconds: float = 1.0) -> np.ndarray:
    """Plucked strings: decaying partials."""
    time_L = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    strings = (
        0.1 / at * np.sin(2 * np.pi * at * 440 * 2 ** ((pitch - 69) / 12) * time_L)
        for pitch in pitches
        for at in range(1, 6)
    )
    return np.asarray(np.exp(-2 * time_L) * sum(strings, np.zeros(len(time_L))))


def test_chords_are_heard_across_windows() -> None:
    try:
        transcribe = Transcriber()
    except Unmeasured:
        pytest.skip("basic-pitch is not installed")
    chords = [(60, 64, 67), (62, 65, 69), (59, 62, 67), (60, 64, 72)]
    notes = [Note(pitch=pitch, start_s=float(at), end_s=at + 0.9) for at, keys in enumerate(chords) for pitch in keys]
    sounds_TP = transcribe(np.concatenate([chord(*keys) for keys in chords]), RATE_HZ)
    assert abs(len(sounds_TP) - 4 * 22050 / 256) < 2
    heard = score_frames(sounds_TP, notes)
    other = score_frames(
        sounds_TP, [Note(pitch=note.pitch + 1, start_s=note.start_s, end_s=note.end_s) for note in notes]
    )
    assert heard.recall > 0.85 and heard.f1 > 0.7 and other.f1 < 0.1


def test_frames_are_counted() -> None:
    sounds_TP = np.zeros((100, 88), bool)
    sounds_TP[:50, 60 - 21] = True
    frame_s = 256 / 22050
    written = [Note(pitch=60, start_s=0, end_s=40 * frame_s), Note(pitch=64, start_s=90 * frame_s, end_s=110 * frame_s)]
    score = score_frames(sounds_TP, written)
    assert score == FrameScore(both=40, only_heard=10, only_written=20)
    assert score.recall == pytest.approx(2 / 3) and score.f1 == pytest.approx(80 / 110)
    assert score + NO_FRAMES == score and NO_FRAMES.f1 == 0
