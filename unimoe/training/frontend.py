"""Writes the demo's front end: lexicon, letter-to-sound rules, duration table and frontend.json.

flite's own phonemisation is asked once, here; the finished front end needs neither it nor the network.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimoe.data import melodies
from unimoe.data.corpus import Corpus
from unimoe.data.flite import WEAK_FORMS, phonemise
from unimoe.data.texts import DIGIT_WORDS, all_commands
from unimoe.data.words import common_words
from unimoe.training.letter_rules import Rules, learn_rules
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend import timeline
from unimoe_runtime.frontend.durations import places
from unimoe_runtime.frontend.lexicon import SILENT, Lexicon, Phonemes
from unimoe_runtime.frontend.notation import parse_chords
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.records import JsonRecord

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EXTRA_WORDS = (
    "zero eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand first second third fourth fifth sixth seventh eighth ninth tenth twelfth "
    "twentieth thirtieth minus point percent plus equals dollar dollars pound pounds euro euros number degrees times "
    "oh o'clock hello doctor mister missus saint versus street half halves quarter quarters thirds cents pence"
).split()
# What `unimoe profile` runs where no text is given.
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
    """How large the front end is. `known_words` are always listed, of `listed_words` those that the rules miss.

    `max_characters` of a request, more where the corpus has longer ones.
    """

    known_words: int = 3000
    listed_words: int = 6000
    rule_words: int = 25000
    max_characters: int = 200
    origin: int = 2


def grammar_words() -> list[str]:
    """Every word of the digit strings and commands."""
    return sorted({word for text in (*DIGIT_WORDS, *all_commands()) for word in text.split()})


def learn_lexicon(recipe: FrontEndRecipe) -> Lexicon:
    """Ask flite for common words, learn rules from them, and list those that the rules would miss."""
    common = common_words(recipe.rule_words)
    kept = list(dict.fromkeys([*grammar_words(), *EXTRA_WORDS, *common[: recipe.known_words]]))
    sounds = phonemise(list(dict.fromkeys([*kept, *common])))
    plain = {word: found for word, found in sounds.items() if word.isalpha() and len(word) > 1}
    rules = learn_rules(plain)
    letters = phonemise([f"{letter}." if letter != "A" else "eh" for letter in LETTERS])
    words = {letter: found for letter, found in zip(LETTERS, letters.values(), strict=True)} | {"A": ("ey",)}
    words |= {word: sounds[word] for word in kept}
    bare = Lexicon(words=words, rules=rules)
    words |= {w: sounds[w] for w in common[: recipe.listed_words] if w not in words and bare.pronounce(w) != sounds[w]}
    return Lexicon(words=words | WEAK_FORMS, rules=rules)


def mean_durations(corpus: Corpus) -> dict[tuple[str, str, str], float]:
    """Mean seconds by (voice, phoneme, place) over the training split; each phoneme also has an "inner" entry."""
    seen: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for item in corpus.select(split="train", domain="speech"):
        ends_s = [end_s for _, end_s in item.phonemes]
        phonemes = [phoneme for phoneme, _ in item.phonemes]
        for phoneme, place, length_s in zip(phonemes, places(phonemes), np.diff([0.0, *ends_s]), strict=True):
            seen[item.voice, phoneme, place].append(float(length_s))
    means = {key: sum(values) / len(values) for key, values in seen.items()}
    voices = sorted({voice for voice, _, _ in seen})
    phonemes = sorted({phoneme for _, phoneme, _ in seen})
    for voice in voices:
        typical = float(np.median([mean for (name, _, place), mean in means.items() if name == voice]))
        for phoneme in phonemes:
            others = [mean for (_, name, place), mean in means.items() if name == phoneme and place == "inner"]
            known = means.get((voice, phoneme, "last"), sum(others) / len(others) if others else typical)
            means.setdefault((voice, phoneme, "inner"), known)
    return means


def write_frontend(folder: Path, corpus: Corpus, recipe: FrontEndRecipe, *, frame_rate_hz: float) -> TimelineFrontEnd:
    """Write a front end for the voices and instruments of `corpus`, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    lexicon = learn_lexicon(recipe)
    means = mean_durations(corpus)
    phonemes = sorted({phoneme for _, phoneme, _ in means})
    readings = [*lexicon.words.values(), *lexicon.rules.values()]
    unseen = sorted({sound for reading in readings for sound in reading} - set(phonemes))
    if unseen:
        raise OutputError(f"the corpus never says the phoneme {unseen[0]!r}: render more phrases")
    voices = list(dict.fromkeys(item.voice for item in corpus if item.voice))
    instruments = list(dict.fromkeys(item.instrument for item in corpus if item.instrument))
    music = music_range(corpus)
    notes = range(music["lowest_pitch"], music["highest_pitch"] + 1)
    tokens = [timeline.PAD, timeline.SEPARATOR, *(f"voice:{name}" for name in voices)]
    tokens += [f"instrument:{name}" for name in instruments]
    tokens += [f"phoneme:{phoneme}" for phoneme in phonemes] + [f"note:{note}" for note in notes]
    longest_s = max(item.length for item in corpus) / corpus.sample_rate_hz
    settings = {
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
        "tokens": tokens,
    }
    _write_table(folder / "lexicon.tsv", ((word, " ".join(found)) for word, found in sorted(lexicon.words.items())))
    _write_table(folder / "letter_to_sound.tsv", _rule_rows(lexicon.rules))
    _write_table(folder / "durations.tsv", ((*key, f"{mean:.4f}") for key, mean in sorted(means.items())))
    (folder / "frontend.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return TimelineFrontEnd.read(folder, settings)


def music_range(corpus: Corpus) -> dict[str, Any]:
    """The "music" section of frontend.json: what the pieces of the corpus span."""
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
        "default_instrument": played[0].instrument if played else "",
        "default_tempo_bpm": 120,
        "lead_s": melodies.LEAD_S,
        "tail_s": melodies.TAIL_S,
    }


def _rule_rows(rules: Rules | Mapping[tuple[str, str, str], Phonemes]) -> Iterable[tuple[str, ...]]:
    for (left, letter, right), sounds in sorted(rules.items(), key=lambda rule: (rule[0][1], rule[0])):
        yield left, letter, right, " ".join(sounds) or SILENT


def _write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
