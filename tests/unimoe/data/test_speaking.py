"""Clips that a teacher speaks, gathered into a corpus."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import soundfile

from unimoe.data.gathering import gather_clips
from unimoe.data.kokoro import OUTER_PAUSE_S
from unimoe.data.speaking import CLIPS, read_clips, render_clip, render_speech
from unimoe.data.speech_texts import SpeechRequest
from unimoe_runtime.errors import OutputError

from .installed import needs_teacher

REQUESTS = [
    SpeechRequest(key=0, kind="questions", text="Is it far, Tom?", voice="emma"),
    SpeechRequest(key=1, kind="letters", text="A B.", voice="puck"),
    SpeechRequest(key=2, kind="words", text="Xyzzyqq.", voice="heart"),
]


@pytest.mark.slow
@needs_teacher
def test_clips_are_spoken_once_and_gathered(tmp_path: Path) -> None:
    # A run that is interrupted after one clip resumes with the next.
    list(itertools.islice(render_speech(tmp_path / "speech", REQUESTS, num_workers=1), 1))
    with (tmp_path / "speech" / CLIPS).open("a") as lines:
        lines.write('{"key": 1, "au')  # a truncated line
    counts = [count for count, _ in render_speech(tmp_path / "speech", REQUESTS[:2], num_workers=1)]
    assert counts == [2]
    first, _ = clips = [line for line in read_clips(tmp_path / "speech") if "audio" in line]
    pcm_L, rate_hz = soundfile.read(tmp_path / "speech" / first["audio"])
    assert rate_hz == 24000 and len(pcm_L) / rate_hz == pytest.approx(first["duration_s"], abs=1e-3)
    assert sum(duration_s for _, duration_s, _ in first["phonemes"]) == pytest.approx(first["duration_s"], abs=0.03)
    assert [phoneme for phoneme, _, word in first["phonemes"] if word < 0] == ["pau", ",", "?"]
    assert first["phonemes"][0][1] <= OUTER_PAUSE_S + 1e-6
    assert [word for word, _, _ in first["words"]] == ["is", "it", "far", "tom"]
    assert all(start_s < end_s for _, start_s, end_s in first["words"])
    heard = [{"key": 0, "left_out": ""}, {"key": 1, "left_out": "other words heard"}]
    (tmp_path / "speech" / "heard.jsonl").write_text("".join(json.dumps(line) + "\n" for line in heard))
    corpus = gather_clips(tmp_path / "speech", tmp_path / "corpus", sample_rate_hz=16000)
    assert [item.text for item in corpus] == ["Is it far, Tom?"]
    (item,) = corpus
    assert len(item.word_numbers) == len(item.phonemes) and item.phonemes[-1][0] == "?"
    assert item.length / 16000 == pytest.approx(first["duration_s"], abs=1e-3)
    assert len(clips) == 2


@needs_teacher
def test_a_word_that_the_dictionary_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    assert "lacks the word 'xyzzyqq'" in render_clip(REQUESTS[2], tmp_path)["error"]


def test_nothing_to_gather_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="unimoe data speak"):
        gather_clips(tmp_path, tmp_path / "out", sample_rate_hz=16000)
