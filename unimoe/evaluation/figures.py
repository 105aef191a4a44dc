"""Figures of synthesized speech and music by voice and instrument, their totals, and both as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unimoe.evaluation.pitch import NO_NOTES, NoteScore
from unimoe.evaluation.word_scores import GRAMMAR, WordScore


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
class ClipFigures:
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

    @property
    def last_judge(self) -> str:
        """The name of the last judge of words, which is the least restricted; empty without one."""
        return next(reversed([judge for judge, _ in self._totals()]), "")

    def overall_words(self) -> WordScore:
        """Words of all voices and kinds by the last judge."""
        judge = self.last_judge
        return sum((score for (name, _), score in self._totals().items() if name == judge), WordScore())

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
