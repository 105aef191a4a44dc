"""A user's own recordings: only those of speech have words to hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from unimoe.evaluation.own_recordings import open_recordings
from unimoe_runtime.errors import OutputError


def _record(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800, np.float32), 16000)
    path.with_suffix(".txt").write_text(text)


def test_music_has_no_words(tmp_path: Path) -> None:
    _record(tmp_path / "music" / "tune.wav", "flute, 120 bpm: C4 E4")
    with pytest.raises(OutputError, match="only music"):
        open_recordings(tmp_path, 4)
    _record(tmp_path / "speech" / "one.wav", "Call Anna.")
    _record(tmp_path / "two.wav", "Good morning.")
    assert [entry.text for entry in open_recordings(tmp_path, 4)] == ["Call Anna.", "Good morning."]
    assert len(open_recordings(tmp_path, 1)) == 1
