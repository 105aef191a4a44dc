"""The contents of a corpus: the [data] section of a recipe, and the plan that follows from it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np

from unimoe.data import chorales, flite, melodies, recordings
from unimoe.data.melodies import Melody
from unimoe.data.music_forms import FORMS, draw_forms
from unimoe.data.requirements import Check, require_all, require_pocketsphinx
from unimoe.data.sentences import draw_pairs, draw_sentences, is_held_out, require_sentences, split_of_sentence
from unimoe.data.sources import Source, get_source
from unimoe.data.texts import draw_commands, draw_digit_strings, split_of
from unimoe.data.words import common_words, draw_phrases
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import Between, JsonRecord

Clip = tuple[dict[str, Any], np.ndarray]
"""An item's fields except its place in the audio, and its float samples."""


Count = Annotated[int, Between(0, 1 << 24)]
Counts = dict[str, Count]


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe(JsonRecord):
    """How many clips of each kind to render.

    `digit_strings`, `phrases`, `sentences`, `sentence_pairs`: texts by voice, one of flite.VOICES. `commands_per_voice`
    holds for each voice that has digit strings, unless `commands` gives its number. `melodies` of random notes, and the
    pieces of music_forms.FORMS, by instrument. `chorales`: phrases by instrument. `recordings`: names of
    unimoe.data.recordings.COLLECTIONS. Each gives at most `recorded_minutes`, spread over its files, in pieces of
    `recorded_s`.
    """

    seed: Annotated[int, Between(0, 1 << 62)] = 0
    sample_rate_hz: Annotated[int, Between(1000, 768_000)] = 16000
    digit_strings: Counts = field(default_factory=lambda: {"rms": 2900, "slt": 2900, "awb": 1000, "kal16": 1000})
    commands_per_voice: Count = 750
    commands: Counts = field(default_factory=dict)
    phrases: Counts = field(default_factory=lambda: {"rms": 2000, "slt": 2000, "awb": 1000, "kal16": 1000})
    phrase_words: Annotated[int, Between(1, 1 << 24)] = 3000
    sentences: Counts = field(default_factory=dict)
    sentence_pairs: Counts = field(default_factory=dict)
    melodies: Counts = field(
        default_factory=lambda: dict.fromkeys(("piano", "organ", "guitar", "violin", "trumpet", "flute"), 700)
    )
    tonal: Counts = field(default_factory=dict)
    scale: Counts = field(default_factory=dict)
    arpeggio: Counts = field(default_factory=dict)
    tune: Counts = field(default_factory=dict)
    harmony: Counts = field(default_factory=dict)
    chorales: Counts = field(default_factory=dict)
    recordings: tuple[str, ...] = ()
    recorded_s: Annotated[float, Between(0.1, 3600)] = 6.0
    recorded_minutes: Annotated[float, Between(0, 1e6, above=True)] = 30.0

    def check_together(self) -> None:
        for name in ("melodies", *FORMS, "chorales"):
            _check_names(name, getattr(self, name), melodies.PROGRAMS)
        for name in ("digit_strings", "commands", "phrases", "sentences", "sentence_pairs"):
            _check_names(name, getattr(self, name), flite.VOICES)
        _check_names("recordings", self.recordings, recordings.COLLECTIONS)


def _check_names(name: str, given: Any, known: Any) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"{name} names {unknown[0]!r}; it must be one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source of a corpus. `render` makes clips of some of `wanted`. `split` maps a clip's fields to its split."""

    name: str
    render: Callable[[Any], list[Clip]]
    wanted: list[Any]
    source: Source
    split: Callable[[dict[str, Any]], str]
    chunk: int = 50
    """How many of `wanted` are rendered at a time."""


def by_text(fields: dict[str, Any]) -> str:
    """Split by the text; for free sentences also by held-out words; for clips without text by the piece."""
    if fields["kind"] in ("sentences", "pairs"):
        return split_of_sentence(fields["text"])
    return split_of(fields["text"] or fields.get("piece", ""))


def by_piece(fields: dict[str, Any]) -> str:
    """Split by the first two words of the piece, so that all phrases of a chorale are in one split."""
    return split_of(" ".join(["piece", *fields["piece"].split()[:2]]))


def speak_all(texts: list[tuple[str, str]], voice: str, sample_rate_hz: int) -> list[Clip]:
    """Clips of (kind, text) pairs, spoken by one voice."""
    clips: list[Clip] = []
    for kind, text in texts:
        pcm_L, phonemes = flite.speak(text, voice, sample_rate_hz)
        fields = {"domain": "speech", "kind": kind, "text": text, "voice": voice, "phonemes": phonemes}
        clips.append((fields, pcm_L))
    return clips


def play_all(batch: list[Melody], sample_rate_hz: int) -> list[Clip]:
    """Clips of melodies of one instrument."""
    clips: list[Clip] = []
    for melody, pcm_L in zip(batch, melodies.play(batch, sample_rate_hz), strict=True):
        notes = [{"pitch": note.pitch, "start_s": note.start_s, "end_s": note.end_s} for note in melody.notes]
        known = {"key": melody.key, "piece": melody.piece}
        fields = {"domain": "music", "kind": melody.kind, "text": melody.text, "instrument": melody.instrument}
        fields |= {name: value for name, value in known.items() if value}
        clips.append(({**fields, "tempo_bpm": melody.tempo_bpm, "notes": notes}, pcm_L))
    return clips


def make_plan(recipe: CorpusRecipe) -> list[Job]:
    """One job for each source of the corpus. Raises OutputError, one line, where something is not installed."""
    require_tools(recipe)
    return [*_speech_jobs(recipe), *_music_jobs(recipe), *_recording_jobs(recipe)]


def require_tools(recipe: CorpusRecipe) -> None:
    """Raise OutputError, one line, with every missing program and collection that the recipe needs."""
    checks: list[Check] = []
    if recipe.digit_strings or recipe.phrases or recipe.sentences or recipe.sentence_pairs:
        checks.append(flite.require_flite)
    if recipe.phrases:
        checks.append(require_pocketsphinx)
    if recipe.sentences or recipe.sentence_pairs:
        checks.append(require_sentences)
    if recipe.melodies or recipe.chorales or any(getattr(recipe, form) for form in FORMS):
        checks.append(melodies.require_fluidsynth)
    if recipe.chorales:
        checks.append(chorales.chorale_files)
    checks += [partial(recordings.require_collection, name) for name in recipe.recordings]
    require_all(checks)


def _speech_jobs(recipe: CorpusRecipe) -> list[Job]:
    drawn: list[tuple[str, str, list[tuple[str, str]]]] = []
    for voice, count in recipe.digit_strings.items():
        rng = random.Random(f"{recipe.seed}/{voice}")
        texts = [("digits", text) for text in draw_digit_strings(count, rng)]
        texts += [
            ("commands", text) for text in draw_commands(recipe.commands.get(voice, recipe.commands_per_voice), rng)
        ]
        drawn.append((voice, voice, texts))
    words = common_words(recipe.phrase_words) if recipe.phrases else []
    if recipe.sentences or recipe.sentence_pairs:
        words = [word for word in words if not is_held_out(word)]
    for voice, count in recipe.phrases.items():
        rng = random.Random(f"{recipe.seed}/{voice}-phrases")
        drawn.append((f"{voice}-phrases", voice, [("phrases", text) for text in draw_phrases(count, words, rng)]))
    for voice, count in recipe.sentences.items():
        rng = random.Random(f"{recipe.seed}/{voice}-sentences")
        drawn.append((f"{voice}-sentences", voice, [("sentences", text) for text in draw_sentences(count, rng)]))
    for voice, count in recipe.sentence_pairs.items():
        rng = random.Random(f"{recipe.seed}/{voice}-pairs")
        drawn.append((f"{voice}-pairs", voice, [("pairs", text) for text in draw_pairs(count, rng)]))
    return [
        Job(
            name=name,
            render=partial(speak_all, voice=voice, sample_rate_hz=recipe.sample_rate_hz),
            wanted=texts,
            source=get_source("flite"),
            split=by_text,
        )
        for name, voice, texts in drawn
    ]


def _music_jobs(recipe: CorpusRecipe) -> list[Job]:
    drawn: dict[str, list[Melody]] = {}
    for instrument, count in recipe.melodies.items():
        drawn[instrument] = melodies.draw_melodies(count, instrument, random.Random(f"{recipe.seed}/{instrument}"))
    for form in FORMS:
        for instrument, count in getattr(recipe, form).items():
            rng = random.Random(f"{recipe.seed}/{instrument}-{form}")
            drawn.setdefault(f"{instrument}-forms", []).extend(draw_forms(form, count, instrument, rng))
    for instrument, count in recipe.chorales.items():
        rng = random.Random(f"{recipe.seed}/{instrument}-chorales")
        drawn[f"{instrument}-chorales"] = chorales.draw_chorales(count, instrument, rng)
    return [
        Job(
            name=name,
            render=partial(play_all, sample_rate_hz=recipe.sample_rate_hz),
            wanted=wanted,
            source=get_source("chorales" if name.endswith("-chorales") else "fluidsynth"),
            split=by_piece if name.endswith("-chorales") else by_text,
        )
        for name, wanted in drawn.items()
    ]


def _recording_jobs(recipe: CorpusRecipe) -> list[Job]:
    jobs = []
    for name in recipe.recordings:
        files = recordings.list_files(name)
        pieces = math.ceil(60 * recipe.recorded_minutes / recipe.recorded_s / len(files))
        rate_hz, piece_s = recipe.sample_rate_hz, recipe.recorded_s
        render = partial(recordings.read_all, name=name, sample_rate_hz=rate_hz, piece_s=piece_s, most_pieces=pieces)
        chunk = 1 if recordings.COLLECTIONS[name].domain == "music" else 50
        job = Job(name=name, render=render, wanted=files, source=get_source(name), split=by_text, chunk=chunk)
        jobs.append(job)
    return jobs
