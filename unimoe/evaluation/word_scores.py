"""Word errors of synthesized texts by several judges, with those of the original recordings and the rotated baseline.

Shapes: L samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import soxr

from unimoe.evaluation import intelligibility
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.whisper import Size, Whisper
from unimoe.evaluation.word_errors import WordErrors, count_errors, rotated_errors, total_errors
from unimoe_runtime.install import install_command

Hear = Callable[[np.ndarray], str]
"""A function from mono audio at 16 kHz to words."""
Tick = Callable[[str, int, int], object]
"""Called with the name of the current work, how much of it is done, and its total."""

GRAMMAR: Final = "grammar"
POCKETSPHINX: Final = "pocketsphinx"
WHISPERS: Final[Mapping[str, Size]] = {"whisper tiny.en": "tiny.en", "whisper base": "base"}
ALL_JUDGES: Final = (GRAMMAR, POCKETSPHINX, *WHISPERS)
RATE_HZ: Final = intelligibility.RECOGNIZER_RATE_HZ
_EDGE_S: Final = 0.2  # seconds of silence on both sides: recognizers miss words at the very edge


@dataclass(frozen=True, kw_only=True)
class WordScore:
    """Word errors of some texts: synthesized, against the next text's words, and of the original recordings.

    `made_by_text`: those of the synthesized clips, text by text.
    """

    made: WordErrors = field(default_factory=WordErrors)
    rotated: WordErrors = field(default_factory=WordErrors)
    original: WordErrors = field(default_factory=WordErrors)
    num_texts: int = 0
    made_by_text: tuple[WordErrors, ...] = ()

    def __add__(self, other: WordScore) -> WordScore:
        return WordScore(
            made=self.made + other.made,
            rotated=self.rotated + other.rotated,
            original=self.original + other.original,
            num_texts=self.num_texts + other.num_texts,
            made_by_text=self.made_by_text + other.made_by_text,
        )

    def rates(self) -> dict[str, float]:
        """Errors divided by the number of reference words."""
        return {"wer": self.made.rate, "rotated_wer": self.rotated.rate, "original_wer": self.original.rate}

    def to_dict(self) -> dict[str, Any]:
        """Rates, and the substitutions, deletions and insertions of the synthesized clips."""
        return {**self.made.to_dict(), **self.rates(), "texts": self.num_texts}


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A recognizer. `hears`: by kind of text, where it hears only some kinds. `hears_all`: for every other kind."""

    name: str
    hears: Mapping[str, Hear] = field(default_factory=dict)
    hears_all: Hear | None = None

    def for_kind(self, kind: str) -> Hear | None:
        """The function that hears texts of a kind; None where this judge hears none."""
        return self.hears.get(kind, self.hears_all)


def open_judges(names: Iterable[str] = ALL_JUDGES) -> tuple[list[Judge], dict[str, str]]:
    """Judges by name, and one line for each missing judge with the reason."""
    judges: list[Judge] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            judges.append(_open(name))
        except Unmeasured as error:
            missing[f"words by {name}"] = str(error)
        except ImportError:
            missing[f"words by {name}"] = f"pocketsphinx is not installed: `{install_command('eval')}`"
    return judges, missing


def _open(name: str) -> Judge:
    if name == GRAMMAR:
        grammars = {"digits": intelligibility.digit_grammar(), "commands": intelligibility.command_grammar()}
        return Judge(name=name, hears={kind: intelligibility.Recognizer(text) for kind, text in grammars.items()})
    if name == POCKETSPHINX:
        return Judge(name=name, hears_all=intelligibility.Recognizer(None))
    return Judge(name=name, hears_all=Whisper(WHISPERS[name]))


def watched(judges: Sequence[Judge], num_clips: Mapping[str, int], tick: Tick) -> list[Judge]:
    """The same judges, which tell who listens before each clip: `num_clips` by kind of text, each twice (synthesized
    and original) to every judge that hears the kind."""
    total = sum(2 * number for judge in judges for kind, number in num_clips.items() if judge.for_kind(kind))
    done = itertools.count()

    def watch(name: str, hear: Hear) -> Hear:
        def hear_watched(pcm_L: np.ndarray) -> str:
            tick(f"{name} listens", next(done), total)
            return hear(pcm_L)

        return hear_watched

    return [
        Judge(
            name=judge.name,
            hears={kind: watch(judge.name, hear) for kind, hear in judge.hears.items()},
            hears_all=None if judge.hears_all is None else watch(judge.name, judge.hears_all),
        )
        for judge in judges
    ]


def score_words(
    hear: Hear, texts: Sequence[str], made: Sequence[np.ndarray], originals: Sequence[np.ndarray], rate_hz: int
) -> WordScore:
    """Errors that one judge hears in clips of some texts and in their original recordings, both at `rate_hz`."""
    heard = [hear(_prepared(pcm_L, rate_hz)) for pcm_L in made]
    heard_before = [hear(_prepared(pcm_L, rate_hz)) for pcm_L in originals]
    return WordScore(
        made=total_errors(texts, heard),
        made_by_text=tuple(count_errors(text, words) for text, words in zip(texts, heard, strict=True)),
        rotated=rotated_errors(texts, heard),
        original=total_errors(texts, heard_before),
        num_texts=len(texts),
    )


def _prepared(pcm_L: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resample to the recognizers' rate and add silence at both ends."""
    audio_L = np.asarray(pcm_L, np.float32)
    if rate_hz != RATE_HZ:
        audio_L = soxr.resample(audio_L, rate_hz, RATE_HZ)
    return np.pad(audio_L, round(_EDGE_S * RATE_HZ))
