"""The settings that every front end's frontend.json shares, and the size of a front end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unimoe.data import melodies
from unimoe.data.corpus import Corpus
from unimoe_runtime.frontend import timeline
from unimoe_runtime.frontend.duration_predictor import Pace
from unimoe_runtime.frontend.notation import parse_chords
from unimoe_runtime.frontend.settings import PAD, SEPARATOR
from unimoe_runtime.records import JsonRecord

# `unimoe profile` runs these where no text is given.
EXAMPLES = {
    "speech": ["Remind me at seven forty-five.", "four seven one nine zero two"],
    "music": ["a C major scale on the piano at 120 bpm", "flute, 120 bpm: C4 E4 G4 C5"],
}
ABBREVIATIONS = {
    "Dr": "doctor",
    "Mr": "mister",
    "Mrs": "missus",
    "vs": "versus",
    "etc": "et cetera",
    "e.g": "for example",
    "i.e": "that is",
}


@dataclass(frozen=True, kw_only=True)
class FrontEndRecipe(JsonRecord):
    """The size of a front end. The lexicon always lists `known_words`, and those of `listed_words` that the rules miss.

    `max_characters` of a request; higher where the corpus has longer texts. `parts`: the folder of an existing lexicon,
    letter-to-sound model and duration predictor (`frontend_parts`), for a corpus with stress. `descriptions`: a line
    for each voice or instrument that `unimoe voices` describes. `paces`: for a corpus with stress, how fast a voice
    speaks, as a multiple of its recordings' pace: the model follows, so a voice that hurries can be slowed down.
    """

    known_words: int = 3000
    listed_words: int = 6000
    rule_words: int = 25000
    max_characters: int = 200
    origin: int = 2
    parts: str = ""
    descriptions: dict[str, str] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)


def common_settings(
    corpus: Corpus, recipe: FrontEndRecipe, phonemes: Sequence[str], *, frame_rate_hz: float
) -> dict[str, Any]:
    """Settings of a front end for the voices and instruments of `corpus`. Its voices have these phonemes."""
    voices = list(dict.fromkeys(item.voice for item in corpus if item.voice))
    instruments = list(dict.fromkeys(item.instrument for item in corpus if item.instrument))
    music = music_range(corpus)
    notes = range(music["lowest_pitch"], music["highest_pitch"] + 1)
    tokens = [PAD, SEPARATOR, *(f"voice:{name}" for name in voices)]
    tokens += [f"instrument:{name}" for name in instruments]
    tokens += [f"phoneme:{phoneme}" for phoneme in phonemes] + [f"note:{note}" for note in notes]
    longest_s = max(item.length for item in corpus) / corpus.sample_rate_hz
    return {
        "kind": timeline.KIND,
        "format_version": timeline.FORMAT_VERSION,
        "frame_rate_hz": frame_rate_hz,
        "origin": recipe.origin,
        "max_characters": max([recipe.max_characters, *(len(item.request()[1]) for item in corpus)]),
        "max_frames": math.ceil(longest_s * frame_rate_hz) + 1,
        "default_voice": voices[0] if voices else "",
        "abbreviations": ABBREVIATIONS,
        "music": music,
        "examples": EXAMPLES,
        **({"descriptions": recipe.descriptions} if recipe.descriptions else {}),
        "tokens": tokens,
    }


def music_range(corpus: Corpus) -> dict[str, Any]:
    """The "music" section of frontend.json: the ranges of the corpus's pieces."""
    played = [item for item in corpus if item.notes]
    tempi = [item.tempo_bpm for item in played] or [120]
    pitches = [note.pitch for item in played for note in item.notes]
    chords = [chord for item in played for chord in parse_chords(item.text)]
    beats = [chord.beats for chord in chords] or [1.0]
    return {
        "lowest_pitch": min(pitches, default=melodies.LOWEST_PITCH),
        "highest_pitch": max(pitches, default=melodies.HIGHEST_PITCH),
        "lowest_tempo_bpm": min(tempi),
        "highest_tempo_bpm": max(tempi),
        "max_notes": max((len(parse_chords(item.text)) for item in played), default=1),
        "max_voices": max((len(chord.pitches) for chord in chords), default=1),
        "shortest_beats": min(beats),
        "longest_beats": max(beats),
        "default_instrument": played[0].instrument if played else "piano",
        "default_tempo_bpm": 120,
        "lead_s": melodies.LEAD_S,
        "tail_s": melodies.TAIL_S,
    }
