"""How well a speaking bundle does on texts that it was not trained on: word errors, voices, notes.

The judge is any function from a request to audio, so that recordings, a bundle and a torch model are measured alike.
Beside every figure stands what the corpus's own recordings score, and the baseline of rotated references: what
audio of the next request would score. Nothing here says how natural it sounds.

Shape suffixes: L samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import Corpus, CorpusError, Item
from unimoe.evaluation import intelligibility
from unimoe.evaluation.pitch import NO_NOTES, NoteScore, score_notes
from unimoe.evaluation.voices import VoiceCentroids
from unimoe_runtime.errors import PromptError

Synthesize = Callable[[str, str, str, int], np.ndarray]
"""(task, text, voice, seed) -> mono samples at the corpus's rate."""

KINDS: Final = ("digits", "commands")
"""Kinds of text that a small grammar covers. Free phrases are left out: of the original recordings of unrelated words a
general recognizer gets a third to four fifths wrong, which measures nothing."""
MELODIC: Final = ("piano", "guitar", "violin", "trumpet", "flute")
"""Instruments whose own recordings the pitch tracker hears right; an organ sounds octaves below what is written."""

_LEARNT_CLIPS = 60  # training clips of each voice, from which its centroid is learnt
_SHORTEST_S = 0.1


@dataclass(frozen=True, kw_only=True)
class WordScore:
    """Word errors of some texts: as synthesized, against the next text's words, and of the original recordings."""

    errors: int
    rotated_errors: int
    original_errors: int
    num_words: int
    num_texts: int

    def __add__(self, other: WordScore) -> WordScore:
        return WordScore(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def rates(self) -> dict[str, float]:
        """Word error rates: errors divided by the words that were to be said."""
        words = max(1, self.num_words)
        return {
            "wer": self.errors / words,
            "rotated_wer": self.rotated_errors / words,
            "original_wer": self.original_errors / words,
        }


NO_WORDS = WordScore(errors=0, rotated_errors=0, original_errors=0, num_words=0, num_texts=0)


@dataclass(frozen=True, kw_only=True)
class VoiceFigures:
    """Of one voice: words by kind of text, and how many clips are taken for this voice, synthesized and original."""

    words: Mapping[str, WordScore]
    num_recognised: int
    num_originals_recognised: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class InstrumentFigures:
    """Of one instrument: notes heard as written, synthesized, against the next melody, and in the recordings."""

    made: NoteScore
    rotated: NoteScore
    original: NoteScore


@dataclass(frozen=True, kw_only=True)
class DemoFigures:
    """All figures. `refused`: requests that gave no audio, with the reason; they count as silence."""

    voices: Mapping[str, VoiceFigures]
    instruments: Mapping[str, InstrumentFigures]
    refused: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Over all voices and instruments: rates by kind of text, share of voices and notes recognised."""
        found: dict[str, float] = {}
        for kind in KINDS:
            total = sum((voice.words[kind] for voice in self.voices.values() if kind in voice.words), NO_WORDS)
            if total.num_words:
                found |= {f"{kind}_{name}": rate for name, rate in total.rates().items()}
        clips = sum(voice.num_clips for voice in self.voices.values())
        if clips:
            found["voices_recognised"] = sum(voice.num_recognised for voice in self.voices.values()) / clips
            originals = sum(voice.num_originals_recognised for voice in self.voices.values())
            found["original_voices_recognised"] = originals / clips
        if self.instruments:
            made, rotated, original = (
                sum((getattr(figures, name) for figures in self.instruments.values()), NO_NOTES)
                for name in ("made", "rotated", "original")
            )
            found |= {
                "notes_exact": made.exact_share,
                "notes_up_to_octave": made.octave_share,
                "rotated_notes_exact": rotated.exact_share,
                "original_notes_exact": original.exact_share,
                "original_notes_up_to_octave": original.octave_share,
            }
        return {name: round(value, 4) for name, value in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Summary and details as JSON values."""
        voices = {
            name: {
                "words": {
                    kind: {**score.rates(), "words": score.num_words, "texts": score.num_texts}
                    for kind, score in voice.words.items()
                },
                "recognised": voice.num_recognised,
                "originals_recognised": voice.num_originals_recognised,
                "clips": voice.num_clips,
            }
            for name, voice in self.voices.items()
        }
        instruments = {
            name: {
                "notes_exact": figures.made.exact_share,
                "notes_up_to_octave": figures.made.octave_share,
                "rotated_notes_exact": figures.rotated.exact_share,
                "original_notes_exact": figures.original.exact_share,
                "original_notes_up_to_octave": figures.original.octave_share,
                "notes": figures.made.total,
            }
            for name, figures in self.instruments.items()
        }
        return {
            "summary": self.summary(), "voices": voices, "instruments": instruments, "refused": dict(self.refused),
        }  # fmt: skip


def held_out(corpus: Corpus, num_texts: int) -> list[Item]:
    """The requests: of each voice and kind of text, and of each instrument, the first `num_texts` of the test split."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in corpus.select(split="test"):
        if item.kind in KINDS or item.instrument in MELODIC:
            groups.setdefault((item.voice or item.instrument, item.kind), []).append(item)
    return [item for group in groups.values() for item in group[:num_texts]]


def judge(
    synthesize: Synthesize, corpus: Corpus, *, num_texts: int = 24, tick: Callable[[int, int], object] = lambda *_: None
) -> DemoFigures:
    """Synthesize the held-out texts and measure them. Text i of all is made with seed i, so figures repeat.

    `num_texts`: of each kind of text for each voice, and of melodies for each instrument. `tick` is called with the
    number of texts done and of all texts. Raises CorpusError where the corpus has no test texts.
    """
    items = held_out(corpus, num_texts)
    if not items:
        raise CorpusError("the corpus has no texts in its test split: render it with more texts")
    made: list[np.ndarray] = []
    refused: dict[str, str] = {}
    for seed, item in enumerate(items):
        task, text, voice = item.request()
        try:
            pcm_L = synthesize(task, text, voice, seed)
        except PromptError as problem:
            refused[f"{voice}: {text}"] = str(problem)
            pcm_L = np.zeros(0, dtype=np.float32)
        shortest = round(_SHORTEST_S * corpus.sample_rate_hz)
        made.append(np.pad(pcm_L, (0, max(0, shortest - len(pcm_L)))))
        tick(seed + 1, len(items))
    spoken = [(item, pcm_L) for item, pcm_L in zip(items, made, strict=True) if item.domain == "speech"]
    played = [(item, pcm_L) for item, pcm_L in zip(items, made, strict=True) if item.domain == "music"]
    return DemoFigures(
        voices=_voice_figures(spoken, corpus),
        instruments={name: _instrument_figures(group, corpus.sample_rate_hz) for name, group in _by_source(played)},
        refused=refused,
    )


def _by_source(clips: Sequence[tuple[Item, np.ndarray]]) -> Iterator[tuple[str, list[tuple[Item, np.ndarray]]]]:
    for name in dict.fromkeys(item.voice or item.instrument for item, _ in clips):
        yield name, [(item, pcm_L) for item, pcm_L in clips if (item.voice or item.instrument) == name]


def _voice_figures(spoken: Sequence[tuple[Item, np.ndarray]], corpus: Corpus) -> dict[str, VoiceFigures]:
    if not spoken:
        return {}
    grammars = {"digits": intelligibility.digit_grammar(), "commands": intelligibility.command_grammar()}
    scores: dict[str, dict[str, WordScore]] = {}
    for kind in KINDS:
        clips = [(item, pcm_L) for item, pcm_L in spoken if item.kind == kind]
        if clips:
            recognizer = intelligibility.Recognizer(grammars[kind])
            for voice, group in _by_source(clips):
                scores.setdefault(voice, {})[kind] = _word_score(group, recognizer)
    rate_hz = corpus.sample_rate_hz
    centroids = _learn_voices(corpus, list(scores))
    figures: dict[str, VoiceFigures] = {}
    for voice, group in _by_source(spoken):
        figures[voice] = VoiceFigures(
            words=scores[voice],
            num_recognised=sum(centroids.nearest(pcm_L, rate_hz) == voice for _, pcm_L in group),
            num_originals_recognised=sum(centroids.nearest(item.pcm(), rate_hz) == voice for item, _ in group),
            num_clips=len(group),
        )
    return figures


def _learn_voices(corpus: Corpus, voices: Sequence[str]) -> VoiceCentroids:
    clips: dict[str, list[np.ndarray]] = {voice: [] for voice in voices}
    for item in corpus.select(split="train", domain="speech"):
        if len(clips.get(item.voice, [None] * _LEARNT_CLIPS)) < _LEARNT_CLIPS:
            clips[item.voice].append(item.pcm())
    for voice, found in clips.items():
        if len(found) < 2:
            raise CorpusError(f"the corpus has {len(found)} training clips of {voice}; its voice cannot be learnt")
    return VoiceCentroids.learn(clips, corpus.sample_rate_hz)


def _word_score(group: Sequence[tuple[Item, np.ndarray]], recognizer: Callable[[np.ndarray], str]) -> WordScore:
    texts = [item.text.split() for item, _ in group]
    heard = [recognizer(pcm_L).split() for _, pcm_L in group]
    originals = [recognizer(item.pcm()).split() for item, _ in group]
    return WordScore(
        errors=_total_errors(texts, heard),
        rotated_errors=_total_errors([*texts[1:], *texts[:1]], heard),
        original_errors=_total_errors(texts, originals),
        num_words=sum(map(len, texts)),
        num_texts=len(texts),
    )


def _total_errors(references: Sequence[Sequence[str]], heard: Sequence[Sequence[str]]) -> int:
    return sum(map(intelligibility.word_errors, references, heard))


def _instrument_figures(group: Sequence[tuple[Item, np.ndarray]], rate_hz: int) -> InstrumentFigures:
    made = rotated = original = NO_NOTES
    items = [item for item, _ in group]
    for (item, pcm_L), other in zip(group, [*items[1:], *items[:1]], strict=True):
        made += score_notes(pcm_L, rate_hz, item.notes)
        rotated += score_notes(pcm_L, rate_hz, other.notes)
        original += score_notes(item.pcm(), rate_hz, item.notes)
    return InstrumentFigures(made=made, rotated=rotated, original=original)
