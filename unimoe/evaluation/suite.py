"""All measurements of `unimoe eval` on one bundle, in order, with the figures as JSON values.

A metric whose package is missing is left out with the reason. The other metrics continue.

Shape suffixes: L samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import soxr

from unimoe.data.corpus import Corpus
from unimoe.evaluation.clips import (
    FREE_KINDS,
    KINDS,
    TOGETHER,
    Clip,
    Synthesize,
    by_source,
    held_out,
    make_clips,
    measure,
    training_clips,
)  # fmt: skip
from unimoe.evaluation.figures import ClipFigures
from unimoe.evaluation.forced import ForcedFigures, read_clips
from unimoe.evaluation.frechet import log_mel_frechet
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.quality import RATE_HZ, Dnsmos, SpeakerEncoder
from unimoe.evaluation.transcription import NO_FRAMES, FrameScore, Transcriber, score_frames
from unimoe.evaluation.word_scores import ALL_JUDGES, Tick, open_judges
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

JUDGES: Final[Sequence[str]] = ALL_JUDGES
"""Judges of words."""
_VOICE_CLIPS: Final = 10  # recordings that give a voice's embedding
_DNSMOS_CLIPS: Final = 8  # for each voice: the network takes half a second a clip


@dataclass(frozen=True, kw_only=True)
class VoiceQuality:
    """Means over a voice's clips, synthesized and original.

    `similarity`: cosine to the voice's own recordings of the training split. `other_similarity`: cosine of the
    synthesized clips to the next voice's recordings. `dnsmos`: signal, background, overall. None where not measured.
    """

    similarity: float | None = None
    original_similarity: float | None = None
    other_similarity: float | None = None
    dnsmos: tuple[float, float, float] | None = None
    original_dnsmos: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class FrechetFigures:
    """Log-mel Fréchet distances in a domain: synthesized clips to the originals; for comparison, one half of the
    originals to the other half, and the other domain's originals to these."""

    made: float
    halves: float
    other_domain: float | None


@dataclass(frozen=True, kw_only=True)
class TogetherFigures:
    """Figures of an instrument's polyphonic music: keys heard as written, in the synthesized audio, against the next
    piece's notes, and in the recordings."""

    made: FrameScore
    rotated: FrameScore
    original: FrameScore
    num_clips: int

    def to_dict(self) -> dict[str, Any]:
        scores = {"made": self.made, "original": self.original, "rotated": self.rotated}
        return {**{name: score.rates() for name, score in scores.items()}, "clips": self.num_clips}


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Results of an evaluation. `unmeasured`: name of a metric and the reason why it is missing, one line."""

    name: str
    corpus: str
    sample_rate_hz: int
    clips: Sequence[Clip] = field(repr=False)
    heard: ClipFigures
    quality: Mapping[str, VoiceQuality]
    together: Mapping[str, TogetherFigures]
    frechet: Mapping[str, FrechetFigures]
    forced: ForcedFigures
    unmeasured: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        routing = self.forced.routing
        return {
            "name": self.name,
            "corpus": self.corpus,
            "clips": len(self.clips),
            **self.heard.to_dict(),
            "quality": {voice: asdict(figures) for voice, figures in self.quality.items()},
            "together": {name: figures.to_dict() for name, figures in self.together.items()},
            "log_mel_frechet": {domain: asdict(figures) for domain, figures in self.frechet.items()},
            "loss": {domain: asdict(loss) for domain, loss in self.forced.losses.items()},
            "routing": None
            if routing is None
            else {
                **routing.summary(),
                "domains": routing.domains,
                "experts_by_domain_and_layer": routing.picked_mean_DL().tolist(),
                "null_share_by_domain_and_layer": routing.null_share_DL().tolist(),
                "load_by_domain_layer_and_expert": routing.load_DLE().tolist(),
            },
            "unmeasured": dict(self.unmeasured),
        }


def evaluate_bundle(
    synthesizer: Synthesizer,
    corpus: Corpus,
    *,
    name: str,
    corpus_name: str,
    num_texts: int,
    tick: Tick = lambda *_: None,
) -> Evaluation:
    """Synthesize and measure held-out texts, with the bundle's own sampling. See `demo.held_out` and `make_clips`."""
    rate_hz = corpus.sample_rate_hz
    items = held_out(corpus, num_texts, (*KINDS, *FREE_KINDS, *TOGETHER))
    speak = synthesize_with(synthesizer, rate_hz)
    clips = make_clips(speak, corpus, items, tick=lambda done, total: tick("synthesizing", done, total))
    forced = read_clips(
        synthesizer.backend,
        synthesizer.frontend,
        items,
        rate_hz,
        tick=lambda done, total: tick("loss and routing", done, total),
    )
    tick("loading the judges of words", 0, 1)
    judges, unmeasured = open_judges(JUDGES)
    heard = measure(clips, corpus, judges, tick=tick)
    quality = _quality([clip for clip in clips if clip.item.domain == "speech"], corpus, unmeasured, tick)
    return Evaluation(
        name=name,
        corpus=corpus_name,
        sample_rate_hz=rate_hz,
        clips=clips,
        heard=heard,
        quality=quality,
        together=_together([clip for clip in clips if clip.item.kind in TOGETHER], rate_hz, unmeasured, tick),
        frechet=_frechet(clips, rate_hz),
        forced=forced,
        unmeasured=unmeasured,
    )


def synthesize_with(synthesizer: Synthesizer, sample_rate_hz: int) -> Synthesize:
    """A synthesizer as the function that the evaluation calls, with the bundle's own sampling."""

    def synthesize(task: str, text: str, voice: str, seed: int) -> np.ndarray:
        result = synthesizer.synthesize(SynthesisRequest(task=task, text=text, voice=voice, seed=seed))
        return _resampled(result.pcm_L, result.sample_rate_hz, sample_rate_hz)

    return synthesize


def _resampled(pcm_L: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    return pcm_L if from_hz == to_hz else np.asarray(soxr.resample(pcm_L, from_hz, to_hz))


def _quality(spoken: Sequence[Clip], corpus: Corpus, unmeasured: dict[str, str], tick: Tick) -> dict[str, VoiceQuality]:
    found: dict[str, dict[str, Any]] = {voice: {} for voice, _ in by_source(spoken)}
    rate_hz = corpus.sample_rate_hz
    for measure_of, name in ((_similarities, "speaker similarity"), (_scores, "DNSMOS")):
        try:
            for voice, figures in measure_of(spoken, corpus, rate_hz, tick).items():
                found[voice] |= figures
        except Unmeasured as error:
            unmeasured[name] = str(error)
    return {voice: VoiceQuality(**figures) for voice, figures in found.items()}


def _similarities(spoken: Sequence[Clip], corpus: Corpus, rate_hz: int, tick: Tick) -> dict[str, dict[str, float]]:
    encoder = SpeakerEncoder()

    def embed(pcm_L: np.ndarray) -> np.ndarray:
        return encoder.embed(_resampled(pcm_L, rate_hz, RATE_HZ))

    groups = dict(by_source(spoken))
    references = {}
    for voice, recordings in training_clips(corpus, list(groups), _VOICE_CLIPS).items():
        mean_D = np.mean([embed(pcm_L) for pcm_L in recordings], axis=0)
        references[voice] = mean_D / np.linalg.norm(mean_D)
    voices = list(groups)
    found, done = {}, itertools.count()
    for at, (voice, group) in enumerate(groups.items()):
        pairs = []
        for clip in group:
            tick(f"speaker similarity of {voice}", next(done), len(spoken))
            pairs.append((embed(clip.pcm_L), embed(clip.item.pcm())))
        made_CD, originals_CD = (np.stack(embeddings) for embeddings in zip(*pairs, strict=True))
        other = voices[(at + 1) % len(voices)]
        found[voice] = {
            "similarity": float((made_CD @ references[voice]).mean()),
            "original_similarity": float((originals_CD @ references[voice]).mean()),
            "other_similarity": float((made_CD @ references[other]).mean()),
        }
    return found


def _scores(
    spoken: Sequence[Clip], corpus: Corpus, rate_hz: int, tick: Tick
) -> dict[str, dict[str, tuple[float, ...]]]:
    dnsmos = Dnsmos()
    found, done = {}, itertools.count()
    # Every n-th clip, so that every kind of text occurs: the clips are ordered by kind.
    groups = {voice: group[:: -(-len(group) // _DNSMOS_CLIPS)] for voice, group in by_source(spoken)}
    total = sum(map(len, groups.values()))
    for voice, group in groups.items():
        scores: dict[str, list[tuple[float, ...]]] = {"dnsmos": [], "original_dnsmos": []}
        for clip in group:
            tick(f"DNSMOS of {voice}", next(done), total)
            for name, pcm_L in zip(scores, (clip.pcm_L, clip.item.pcm()), strict=True):
                scores[name].append(dnsmos(_resampled(pcm_L, rate_hz, RATE_HZ)))
        found[voice] = {name: tuple(np.mean(of_clips, axis=0).tolist()) for name, of_clips in scores.items()}
    return found


def _together(
    played: Sequence[Clip], rate_hz: int, unmeasured: dict[str, str], tick: Tick
) -> dict[str, TogetherFigures]:
    """Figures of polyphonic music by "kind, instrument"."""
    groups: dict[str, list[Clip]] = {}
    for clip in played:
        groups.setdefault(f"{clip.item.kind}, {clip.item.instrument}", []).append(clip)
    if not groups:
        return {}
    try:
        transcribe = Transcriber()
    except Unmeasured as error:
        unmeasured["simultaneous notes"] = str(error)
        return {}
    found, done = {}, itertools.count()
    for name, group in groups.items():
        made = rotated = original = NO_FRAMES
        for clip, other in zip(group, [*group[1:], *group[:1]], strict=True):
            tick("simultaneous notes", next(done), len(played))
            heard_TP = transcribe(clip.pcm_L, rate_hz)
            made += score_frames(heard_TP, clip.item.notes)
            rotated += score_frames(heard_TP, other.item.notes)
            original += score_frames(transcribe(clip.item.pcm(), rate_hz), clip.item.notes)
        found[name] = TogetherFigures(made=made, rotated=rotated, original=original, num_clips=len(group))
    return found


def _frechet(clips: Sequence[Clip], rate_hz: int) -> dict[str, FrechetFigures]:
    domains = sorted({clip.item.domain for clip in clips}, reverse=True)
    originals = {domain: [clip.item.pcm() for clip in clips if clip.item.domain == domain] for domain in domains}
    found: dict[str, FrechetFigures] = {}
    for domain in domains:
        if len(originals[domain]) < 2:
            continue
        made = [clip.pcm_L for clip in clips if clip.item.domain == domain]
        others = [pcm_L for other in domains if other != domain for pcm_L in originals[other]]
        found[domain] = FrechetFigures(
            made=log_mel_frechet(originals[domain], made, rate_hz),
            halves=log_mel_frechet(originals[domain][::2], originals[domain][1::2], rate_hz),
            other_domain=log_mel_frechet(originals[domain], others, rate_hz) if others else None,
        )
    return found
