"""How well a speaking bundle does on texts that it was not trained on: word errors, voices, notes.

The judge is any function from a request to audio, so that recordings, a bundle and a torch model are measured alike.
Beside every figure stands what the corpus's own recordings score, and the baseline of rotated references: what
audio of the next request would score. How natural it sounds is left to `quality` and to ears.

Shape suffixes: L samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import Corpus, CorpusError, Item
from unimoe.evaluation import intelligibility
from unimoe.evaluation.identity import Features, Identifier, timbre, timbre_and_pitch
from unimoe.evaluation.pitch import NO_NOTES, NoteScore, score_notes
from unimoe_runtime.errors import PromptError

Synthesize = Callable[[str, str, str, int], np.ndarray]
"""(task, text, voice, seed) -> mono samples at the corpus's rate."""

KINDS: Final = ("digits", "commands")
"""Kinds of text that a small grammar covers."""
FREE_KINDS: Final = ("sentences", "pairs")
"""Kinds that only the recognizer's full model can hear. Phrases of unrelated words are left out: of the original
recordings it gets a third to four fifths wrong, which measures nothing."""
MELODIES: Final = ("melody", "scale", "arpeggio", "tune")
"""Kinds of music with one note at a time, which is what the pitch tracker can follow."""
TOGETHER: Final = ("harmony", "chorale")
"""Kinds of music with notes that sound together, which `transcription` follows."""
MELODIC: Final = ("piano", "guitar", "violin", "trumpet", "flute", "clarinet", "oboe", "marimba")
"""Instruments whose own recordings the pitch tracker hears right; an organ sounds octaves below what is written."""

_LEARNT_CLIPS = 60  # training clips of each voice or instrument, from which its mean is learnt
_SHORTEST_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A held-out item, and what was made of its request; `refused` says why that is nothing (then it is silence)."""

    item: Item
    pcm_L: np.ndarray
    refused: str = ""

    @property
    def source(self) -> str:
        return self.item.voice or self.item.instrument


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
    """Of one voice: words by kind of text, and how many clips are taken for this voice, synthesized and original.

    `words` by a grammar, `full_words` by the recognizer's full model, where that was asked for.
    """

    words: Mapping[str, WordScore]
    full_words: Mapping[str, WordScore]
    num_recognised: int
    num_originals_recognised: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class InstrumentFigures:
    """Of one instrument: notes heard as written, synthesized, against the next melody, and in the recordings; and how
    many clips are taken for this instrument, synthesized and original."""

    made: NoteScore
    rotated: NoteScore
    original: NoteScore
    num_recognised: int
    num_originals_recognised: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class DemoFigures:
    """All figures. `refused`: requests that gave no audio, with the reason; they count as silence."""

    voices: Mapping[str, VoiceFigures]
    instruments: Mapping[str, InstrumentFigures]
    refused: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Over all voices and instruments: rates by kind of text, share of voices and notes recognised."""
        found: dict[str, float] = {}
        for kind in (*KINDS, *FREE_KINDS):
            for prefix, which in (("", "words"), ("full_", "full_words")):
                scores = [getattr(voice, which) for voice in self.voices.values()]
                total = sum((score[kind] for score in scores if kind in score), NO_WORDS)
                if total.num_words:
                    found |= {f"{kind}_{prefix}{name}": rate for name, rate in total.rates().items()}
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

    def to_dict(self) -> dict[str, Any]:
        """Summary and details as JSON values."""
        voices = {
            name: {
                **{
                    which: {
                        kind: {**score.rates(), "words": score.num_words, "texts": score.num_texts}
                        for kind, score in getattr(voice, which).items()
                    }
                    for which in ("words", "full_words")
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
    """Shares of clips that are taken for the source that was asked for, synthesized and original."""
    clips = sum(figures.num_clips for figures in sources)
    if not clips:
        return {}
    return {
        f"{name}_recognised": sum(figures.num_recognised for figures in sources) / clips,
        f"original_{name}_recognised": sum(figures.num_originals_recognised for figures in sources) / clips,
    }


def held_out(corpus: Corpus, num_texts: int, kinds: Sequence[str] = KINDS) -> list[Item]:
    """The requests: of each voice and kind of text, and of each instrument, the first `num_texts` of the test split."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in corpus.select(split="test"):
        if item.kind in kinds or (item.instrument in MELODIC and item.kind in MELODIES):
            groups.setdefault((item.voice or item.instrument, item.kind), []).append(item)
    return [item for group in groups.values() for item in group[:num_texts]]


def judge(
    synthesize: Synthesize, corpus: Corpus, *, num_texts: int = 24, tick: Callable[[int, int], object] = lambda *_: None
) -> DemoFigures:
    """Synthesize the held-out texts that a grammar covers, and the melodies, and measure them. See `make_clips`."""
    return measure(make_clips(synthesize, corpus, held_out(corpus, num_texts), tick=tick), corpus)


def make_clips(
    synthesize: Synthesize,
    corpus: Corpus,
    items: Sequence[Item],
    *,
    tick: Callable[[int, int], object] = lambda *_: None,
) -> list[Clip]:
    """Synthesize the items' requests. Text i of all is made with seed i, so figures repeat.

    `tick` is called with the number of texts done and of all texts. Raises CorpusError where there are no items.
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


def measure(clips: Sequence[Clip], corpus: Corpus, *, full_model: bool = False) -> DemoFigures:
    """Words, voices and notes of what was made. `full_model`: words by the recognizer's full model as well."""
    spoken = [clip for clip in clips if clip.item.domain == "speech"]
    played = [clip for clip in clips if clip.item.instrument in MELODIC and clip.item.kind in MELODIES]
    return DemoFigures(
        voices=_voice_figures(spoken, corpus, full_model),
        instruments=_instruments(played, corpus),
        refused={f"{clip.source}: {clip.item.text}": clip.refused for clip in clips if clip.refused},
    )


def by_source(clips: Sequence[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """Voices and instruments, each with its clips."""
    for name in dict.fromkeys(clip.source for clip in clips):
        yield name, [clip for clip in clips if clip.source == name]


def _voice_figures(spoken: Sequence[Clip], corpus: Corpus, full_model: bool) -> dict[str, VoiceFigures]:
    if not spoken:
        return {}
    grammars = {"digits": intelligibility.digit_grammar(), "commands": intelligibility.command_grammar()}
    words: dict[str, dict[str, WordScore]] = {clip.source: {} for clip in spoken}
    for kind, grammar in grammars.items():
        _score_words(words, kind, spoken, intelligibility.Recognizer(grammar))
    full_words: dict[str, dict[str, WordScore]] = {clip.source: {} for clip in spoken}
    if full_model:
        recognizer = intelligibility.Recognizer(None)
        for kind in (*KINDS, *FREE_KINDS):
            _score_words(full_words, kind, spoken, recognizer)
    rate_hz = corpus.sample_rate_hz
    known = _learn(training_clips(corpus, list(words)), corpus, timbre_and_pitch)
    figures: dict[str, VoiceFigures] = {}
    for voice, group in by_source(spoken):
        figures[voice] = VoiceFigures(
            words=words[voice],
            full_words=full_words[voice],
            num_recognised=sum(known.nearest(clip.pcm_L, rate_hz) == voice for clip in group),
            num_originals_recognised=sum(known.nearest(clip.item.pcm(), rate_hz) == voice for clip in group),
            num_clips=len(group),
        )
    return figures


def _score_words(
    found: dict[str, dict[str, WordScore]], kind: str, spoken: Sequence[Clip], recognizer: Callable[[np.ndarray], str]
) -> None:
    """Put the score of each voice's texts of a kind into `found`."""
    for voice, group in by_source([clip for clip in spoken if clip.item.kind == kind]):
        found[voice][kind] = _word_score(group, recognizer)


def training_clips(corpus: Corpus, sources: Sequence[str], most: int = _LEARNT_CLIPS) -> dict[str, list[np.ndarray]]:
    """Recordings of each voice or instrument that a model has been trained on, the first `most` of each."""
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


def _word_score(group: Sequence[Clip], recognizer: Callable[[np.ndarray], str]) -> WordScore:
    texts = [intelligibility.words_of(clip.item.text) for clip in group]
    heard = [intelligibility.words_of(recognizer(clip.pcm_L)) for clip in group]
    originals = [intelligibility.words_of(recognizer(clip.item.pcm())) for clip in group]
    return WordScore(
        errors=_total_errors(texts, heard),
        rotated_errors=_total_errors([*texts[1:], *texts[:1]], heard),
        original_errors=_total_errors(texts, originals),
        num_words=sum(map(len, texts)),
        num_texts=len(texts),
    )


def _total_errors(references: Sequence[Sequence[str]], heard: Sequence[Sequence[str]]) -> int:
    return sum(map(intelligibility.word_errors, references, heard))


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
