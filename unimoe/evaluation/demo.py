"""Evaluates a bundle that speaks on texts that it was not trained on: word errors, voices, notes.

The evaluation takes any function from a request to audio, so it measures recordings, a bundle and a torch model alike.
Each figure comes with the score of the corpus's own recordings and with the rotated baseline, which is the score
against the next request's reference. `quality` and listening judge how natural the audio sounds.

Shape suffixes: L samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import Corpus, CorpusError, Item
from unimoe.evaluation.identity import Features, Identifier, timbre, timbre_and_pitch
from unimoe.evaluation.pitch import NO_NOTES, NoteScore, score_notes
from unimoe.evaluation.word_scores import GRAMMAR, Judge, WordScore, open_judges, score_words
from unimoe_runtime.errors import PromptError

Synthesize = Callable[[str, str, str, int], np.ndarray]
"""(task, text, voice, seed) -> mono samples at the corpus's rate."""

KINDS: Final = ("digits", "commands")
"""Kinds of text that a small grammar covers."""
FREE_KINDS: Final = (
    "sentences", "pairs", "definitions", "lines", "dialogue", "questions", "numbers", "dates", "names", "announcements",
    "words", "letters", "long",
)  # fmt: skip
"""Kinds that no grammar covers. Phrases of unrelated words are left out: judges mishear even their recordings."""
MELODIES: Final = ("melody", "scale", "arpeggio", "tune")
"""Kinds of music with one note at a time, which the pitch tracker can follow."""
TOGETHER: Final = ("harmony", "chorale")
"""Kinds of music with simultaneous notes, which `transcription` follows."""
MELODIC: Final = ("piano", "guitar", "violin", "trumpet", "flute", "clarinet", "oboe", "marimba")
"""Instruments whose recordings the pitch tracker hears correctly. It hears an organ octaves below the written notes."""

_LEARNT_CLIPS = 60  # training clips that give the mean of a voice or an instrument
_SHORTEST_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A held-out item and its synthesized audio. `refused`: why there is none, in which case the audio is silence."""

    item: Item
    pcm_L: np.ndarray
    refused: str = ""

    @property
    def source(self) -> str:
        return self.item.voice or self.item.instrument


@dataclass(frozen=True, kw_only=True)
class VoiceFigures:
    """Figures of one voice: how many clips are recognised as this voice, synthesized and original, and word scores.

    `words`: by judge, then by kind of text.
    """

    words: Mapping[str, Mapping[str, WordScore]]
    num_recognised: int
    num_originals_recognised: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class InstrumentFigures:
    """Figures of one instrument: notes heard as written, in the synthesized audio, against the next melody and in the
    recordings; and how many clips are recognised as this instrument, synthesized and original."""

    made: NoteScore
    rotated: NoteScore
    original: NoteScore
    num_recognised: int
    num_originals_recognised: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class DemoFigures:
    """All figures. `refused`: requests without audio, with the reason. They count as silence."""

    voices: Mapping[str, VoiceFigures]
    instruments: Mapping[str, InstrumentFigures]
    refused: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Over all voices and instruments: rates by kind of text, shares of recognised voices and notes."""
        found: dict[str, float] = {}
        for (judge, kind), score in self._totals().items():
            prefix = kind if judge == GRAMMAR else f"{kind}_{judge.replace(' ', '_')}"
            found |= {f"{prefix}_{name}": rate for name, rate in score.rates().items()}
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
        for name, sources in (("voices", self.voices), ("instruments", self.instruments)):
            found |= _recognised(name, list(sources.values()))
        return {name: round(value, 4) for name, value in found.items()}

    def _totals(self) -> dict[tuple[str, str], WordScore]:
        """Words of all voices, by judge and kind of text."""
        totals: dict[tuple[str, str], WordScore] = {}
        for voice in self.voices.values():
            for judge, scores in voice.words.items():
                for kind, score in scores.items():
                    totals[judge, kind] = totals.get((judge, kind), WordScore()) + score
        return totals

    def overall_words(self) -> WordScore:
        """Words of all voices and kinds by the last judge, which is the least restricted."""
        totals = self._totals()
        judge = next(reversed([judge for judge, _ in totals]), "")
        return sum((score for (name, _), score in totals.items() if name == judge), WordScore())

    def to_dict(self) -> dict[str, Any]:
        """Summary and details as JSON values."""
        voices = {
            name: {
                "words": {
                    judge: {kind: score.to_dict() for kind, score in scores.items()}
                    for judge, scores in voice.words.items()
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
                "recognised": figures.num_recognised,
                "originals_recognised": figures.num_originals_recognised,
                "clips": figures.num_clips,
            }
            for name, figures in self.instruments.items()
        }
        return {
            "summary": self.summary(), "voices": voices, "instruments": instruments, "refused": dict(self.refused),
        }  # fmt: skip


def _recognised(name: str, sources: Sequence[VoiceFigures | InstrumentFigures]) -> dict[str, float]:
    """Shares of clips that are recognised as the requested source, synthesized and original."""
    clips = sum(figures.num_clips for figures in sources)
    if not clips:
        return {}
    return {
        f"{name}_recognised": sum(figures.num_recognised for figures in sources) / clips,
        f"original_{name}_recognised": sum(figures.num_originals_recognised for figures in sources) / clips,
    }


def held_out(corpus: Corpus, num_texts: int, kinds: Sequence[str] = KINDS) -> list[Item]:
    """The requests: the first `num_texts` of the test split by voice and kind of text, and by instrument."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in corpus.select(split="test"):
        if item.kind in kinds or (item.instrument in MELODIC and item.kind in MELODIES):
            groups.setdefault((item.voice or item.instrument, item.kind), []).append(item)
    return [item for group in groups.values() for item in group[:num_texts]]


def judge(
    synthesize: Synthesize, corpus: Corpus, *, num_texts: int = 24, tick: Callable[[int, int], object] = lambda *_: None
) -> DemoFigures:
    """Synthesize and measure the held-out texts that a grammar covers, and the melodies. See `make_clips`."""
    return measure(make_clips(synthesize, corpus, held_out(corpus, num_texts), tick=tick), corpus)


def make_clips(
    synthesize: Synthesize,
    corpus: Corpus,
    items: Sequence[Item],
    *,
    tick: Callable[[int, int], object] = lambda *_: None,
) -> list[Clip]:
    """Synthesize the items' requests. Text i uses seed i, so that figures are reproducible.

    `tick` receives the number of finished texts and of all texts. Raises CorpusError where there are no items.
    """
    if not items:
        raise CorpusError("the corpus has no texts in its test split: render it with more texts")
    clips: list[Clip] = []
    for seed, item in enumerate(items):
        reason = ""
        try:
            pcm_L = synthesize(*item.request(), seed)
        except PromptError as error:
            pcm_L, reason = np.zeros(0, dtype=np.float32), str(error)
        shortest = round(_SHORTEST_S * corpus.sample_rate_hz)
        clips.append(Clip(item=item, pcm_L=np.pad(pcm_L, (0, max(0, shortest - len(pcm_L)))), refused=reason))
        tick(seed + 1, len(items))
    return clips


def measure(clips: Sequence[Clip], corpus: Corpus, judges: Sequence[Judge] | None = None) -> DemoFigures:
    """Measure the words, voices and notes of clips. `judges` of words; None means only the grammar."""
    spoken = [clip for clip in clips if clip.item.domain == "speech"]
    played = [clip for clip in clips if clip.item.instrument in MELODIC and clip.item.kind in MELODIES]
    return DemoFigures(
        voices=_voice_figures(spoken, corpus, judges),
        instruments=_instruments(played, corpus),
        refused={f"{clip.source}: {clip.item.text}": clip.refused for clip in clips if clip.refused},
    )


def by_source(clips: Sequence[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """Each voice and instrument with its clips."""
    for name in dict.fromkeys(clip.source for clip in clips):
        yield name, [clip for clip in clips if clip.source == name]


def _voice_figures(spoken: Sequence[Clip], corpus: Corpus, judges: Sequence[Judge] | None) -> dict[str, VoiceFigures]:
    if not spoken:
        return {}
    judges = judges if judges is not None else open_judges([GRAMMAR])[0]
    rate_hz = corpus.sample_rate_hz
    voices = dict(by_source(spoken))
    known = _learn(training_clips(corpus, list(voices)), corpus, timbre_and_pitch)
    return {
        voice: VoiceFigures(
            words=_words(group, judges, rate_hz),
            num_recognised=sum(known.nearest(clip.pcm_L, rate_hz) == voice for clip in group),
            num_originals_recognised=sum(known.nearest(clip.item.pcm(), rate_hz) == voice for clip in group),
            num_clips=len(group),
        )
        for voice, group in voices.items()
    }


def _words(group: Sequence[Clip], judges: Sequence[Judge], rate_hz: int) -> dict[str, dict[str, WordScore]]:
    """Scores of one voice by judge and kind of text."""
    found: dict[str, dict[str, WordScore]] = {judge.name: {} for judge in judges}
    for kind in dict.fromkeys(clip.item.kind for clip in group):
        clips = [clip for clip in group if clip.item.kind == kind]
        for judge in judges:
            hear = judge.for_kind(kind)
            if hear is not None:
                texts, made = [clip.item.text for clip in clips], [clip.pcm_L for clip in clips]
                found[judge.name][kind] = score_words(hear, texts, made, [clip.item.pcm() for clip in clips], rate_hz)
    return {name: scores for name, scores in found.items() if scores}


def training_clips(corpus: Corpus, sources: Sequence[str], most: int = _LEARNT_CLIPS) -> dict[str, list[np.ndarray]]:
    """Recordings of each voice or instrument from the training split, the first `most` of each."""
    clips: dict[str, list[np.ndarray]] = {source: [] for source in sources}
    for item in corpus.select(split="train"):
        source = item.voice or item.instrument
        if source in clips and len(clips[source]) < most and (item.voice or item.kind in MELODIES):
            clips[source].append(item.pcm())
    return clips


def _learn(clips: dict[str, list[np.ndarray]], corpus: Corpus, features: Features) -> Identifier:
    for source, found in clips.items():
        if len(found) < 2:
            raise CorpusError(f"the corpus has {len(found)} training clips of {source}; its sound cannot be learnt")
    return Identifier.learn(clips, corpus.sample_rate_hz, features)


def _instruments(played: Sequence[Clip], corpus: Corpus) -> dict[str, InstrumentFigures]:
    groups = dict(by_source(played))
    if not groups:
        return {}
    known, rate_hz = _learn(training_clips(corpus, list(groups)), corpus, timbre), corpus.sample_rate_hz
    figures = {}
    for name, group in groups.items():
        made = rotated = original = NO_NOTES
        for clip, other in zip(group, [*group[1:], *group[:1]], strict=True):
            made += score_notes(clip.pcm_L, rate_hz, clip.item.notes)
            rotated += score_notes(clip.pcm_L, rate_hz, other.item.notes)
            original += score_notes(clip.item.pcm(), rate_hz, clip.item.notes)
        figures[name] = InstrumentFigures(
            made=made,
            rotated=rotated,
            original=original,
            num_recognised=sum(known.nearest(clip.pcm_L, rate_hz) == name for clip in group),
            num_originals_recognised=sum(known.nearest(clip.item.pcm(), rate_hz) == name for clip in group),
            num_clips=len(group),
        )
    return figures
