"""Examples: which phoneme or note sounds in each frame."""

from __future__ import annotations

import numpy as np

from tests.unimoe.training.tiny_training import config
from unimoe.data.corpus import Item
from unimoe.data.melodies import Note
from unimoe.training.examples import make_example, spoken
from unimoe_runtime.frontend.timeline import Segment, Timeline

NO_AUDIO = np.zeros(0, dtype=np.int16)


def test_frames_know_their_phoneme_even_where_the_lexicon_differs() -> None:
    item = Item(
        source="ann", domain="speech", kind="digits", text="cat", split="train", offset=0, length=0, voice="ann",
        phonemes=(("pau", 0.04), ("k", 0.08), ("ah", 0.12), ("t", 0.16), ("pau", 0.2)), audio_L=NO_AUDIO,
    )  # fmt: skip
    names = ["pau", "k", "ae", "t", "pau"]
    segments = tuple(Segment(token=f"phoneme:{name}", duration_s=0.05) for name in names)
    timeline = Timeline(source="voice:ann", segments=segments, caption="cat")
    assert spoken(item, timeline, 11, 50.0).tolist() == [1, 1, 2, 2, -1, -1, 4, 4, 5, 5, 5]


class NotesOnly:
    """The part of a front end that a melody's example needs."""

    frame_rate_hz = 50.0

    def timeline(self, task: str, text: str, voice: str) -> Timeline:
        assert (task, text, voice) == ("music", "flute, 120 bpm: C4 D4", "flute")
        tokens = ["phoneme:pau", "note:60", "note:62", "phoneme:pau"]
        segments = tuple(Segment(token=token, duration_s=0.1) for token in tokens)
        return Timeline(source="instrument:flute", segments=segments, caption=text)

    def row(self, timeline: Timeline) -> tuple[list[int], list[float]]:
        return list(range(len(timeline.segments) + 2)), [0.0, 3.0, 4.0, 5.0, 6.0, 1.0]


def test_notes_sound_until_the_next() -> None:
    notes = (Note(pitch=60, start_s=0.1, end_s=0.55), Note(pitch=62, start_s=0.6, end_s=1.05))
    item = Item(
        source="flute", domain="music", kind="melody", text="C4 D4", split="train", offset=0, length=0,
        instrument="flute", tempo_bpm=120, notes=notes, audio_L=NO_AUDIO,
    )  # fmt: skip
    codes_TK = np.zeros((70, 2), dtype=np.int64)
    example = make_example(item, codes_TK, NotesOnly(), config())  # type: ignore[arg-type]
    assert example.spoken_T.tolist() == [1] * 5 + [2] * 25 + [3] * 25 + [4] * 15
    assert example.length == 6 + 70 + 1
