"""Held-out clips: chosen from a corpus, synthesized anew, and measured by word errors, voices and notes.

The evaluation takes any function from a request to audio, so it measures recordings, a bundle and a torch model alike.
Each figure comes with the score of the corpus's own recordings and with the rotated baseline, which is the score
against the next request's reference. `quality` and listening judge how natural the audio sounds.

Shape suffixes: L samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from unimoe.data.corpus import Corpus, CorpusError, Item
from unimoe.evaluation.figures import ClipFigures, InstrumentFigures, VoiceFigures
from unimoe.evaluation.identity import Features, Identifier, timbre, timbre_and_pitch
from unimoe.evaluation.pitch import NO_NOTES, score_notes
from unimoe.evaluation.word_scores import GRAMMAR, Judge, Tick, WordScore, open_judges, score_words, watched
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


def held_out(corpus: Corpus, num_texts: int, kinds: Sequence[str] = KINDS) -> list[Item]:
    """The requests: the first `num_texts` of the test split by voice and kind of text, and by instrument."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in corpus.select(split="test"):
        if item.kind in kinds or (item.instrument in MELODIC and item.kind in MELODIES):
            groups.setdefault((item.voice or item.instrument, item.kind), []).append(item)
    return [item for group in groups.values() for item in group[:num_texts]]


def judge(
    synthesize: Synthesize, corpus: Corpus, *, num_texts: int = 24, tick: Callable[[int, int], object] = lambda *_: None
) -> ClipFigures:
    """Synthesize and measure the held-out texts that a grammar covers, and the melodies. See `make_clips`."""
    clips = make_clips(synthesize, corpus, held_out(corpus, num_texts), tick=tick)
    return measure(clips, corpus, tick=lambda what, done, total: tick(done, total))


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


def measure(
    clips: Sequence[Clip],
    corpus: Corpus,
    judges: Sequence[Judge] | None = None,
    *,
    tick: Tick = lambda what, done, total: None,
) -> ClipFigures:
    """Measure the words, voices and notes of clips. `judges` of words; None means only the grammar."""
    spoken = [clip for clip in clips if clip.item.domain == "speech"]
    played = [clip for clip in clips if clip.item.instrument in MELODIC and clip.item.kind in MELODIES]
    return ClipFigures(
        voices=_voice_figures(spoken, corpus, judges, tick),
        instruments=_instruments(played, corpus, tick),
        refused={f"{clip.source}: {clip.item.text}": clip.refused for clip in clips if clip.refused},
    )


def by_source(clips: Sequence[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """Each voice and instrument with its clips."""
    for name in dict.fromkeys(clip.source for clip in clips):
        yield name, [clip for clip in clips if clip.source == name]


def _voice_figures(
    spoken: Sequence[Clip], corpus: Corpus, judges: Sequence[Judge] | None, tick: Tick
) -> dict[str, VoiceFigures]:
    if not spoken:
        return {}
    judges = judges if judges is not None else open_judges([GRAMMAR])[0]
    judges = watched(judges, Counter(clip.item.kind for clip in spoken), tick)
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


def _instruments(played: Sequence[Clip], corpus: Corpus, tick: Tick) -> dict[str, InstrumentFigures]:
    groups = dict(by_source(played))
    if not groups:
        return {}
    known, rate_hz = _learn(training_clips(corpus, list(groups)), corpus, timbre), corpus.sample_rate_hz
    figures = {}
    for at, (name, group) in enumerate(groups.items()):
        tick(f"notes of the {name}", at, len(groups))
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
