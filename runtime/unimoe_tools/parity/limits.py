"""The permitted difference of a candidate from its reference: each figure of a comparison with its limit.

R resamples · T texts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from unimoe_tools.parity.bootstrap import RESAMPLES, percentile_interval
from unimoe_tools.parity.bundles import BundleComparison
from unimoe_tools.units import count, size

AT_LEAST: Final = ("router-agreement", "equal-sets", "token-agreement", "equal-runs", "speedup")
"""Figures that pass at or above their limit; those of `AT_MOST` pass at or below it."""
AT_MOST: Final = ("logit-error", "kl", "spectral-db", "size", "word-errors", "notes")
HEARD: Final = ("word-errors", "notes")
"""Figures that need a corpus of texts to synthesize and transcribe."""
DEFAULT_LIMITS: Final[Mapping[str, float]] = {"router-agreement": 0.97, "word-errors": 0.02, "notes": 0.03}
_WORD_ERROR_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a judge heard of one bundle: rates by name, and word errors and words of each text."""

    summary: Mapping[str, float]
    word_errors_T: Sequence[int] = ()
    words_T: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the result. `beside` names, in words, the value to compare with; `low` to `high` is the interval."""

    name: str
    value: float
    limit: float | None
    meaning: str
    beside: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> str:
        """The value's interval as text; empty where none was computed."""
        return "" if self.low is None or self.high is None else f"{self.low:.4g}–{self.high:.4g}"

    @property
    def explanation(self) -> str:
        """The meaning, and the value to compare with."""
        return f"{self.meaning}; {self.beside}" if self.beside else self.meaning

    @property
    def passed(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.name in AT_LEAST else self.value <= self.limit

    @property
    def is_undecided(self) -> bool:
        """Whether the figure of a corpus is beyond its limit, but its interval is not: the corpus is too small."""
        if self.passed or self.name not in HEARD or self.low is None or self.limit is None:
            return False
        return self.low <= self.limit

    @property
    def bound(self) -> str:
        """The limit as a condition, such as "≥ 0.97"; empty without one."""
        return "" if self.limit is None else f"{'≥' if self.name in AT_LEAST else '≤'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return "ok" if self.passed else "undecided" if self.is_undecided else "FAILS"


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """All measurements. `heard`: the transcription results of a corpus for each of the bundles."""

    comparison: BundleComparison
    figures: tuple[Figure, ...]
    heard: Mapping[str, Heard]

    @property
    def passed(self) -> bool:
        return all(figure.passed for figure in self.figures)

    @property
    def is_undecided(self) -> bool:
        """Whether nothing fails, and a corpus is too small to tell the rest."""
        missed = [figure for figure in self.figures if not figure.passed]
        return bool(missed) and all(figure.is_undecided for figure in missed)

    def to_dict(self) -> dict[str, Any]:
        figures = [
            {
                "name": one.name,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "limit": one.limit,
                "passed": one.passed,
                "undecided": one.is_undecided,
                "beside": one.beside,
            }
            for one in self.figures
        ]
        return {
            "passed": self.passed,
            "undecided": self.is_undecided,
            "figures": figures,
            "comparison": asdict(self.comparison),
            "heard": {name: dict(one.summary) for name, one in self.heard.items()},
        }


def limit_bundles(
    comparison: BundleComparison, limits: Mapping[str, float], *, heard: Mapping[str, Heard] | None = None
) -> BundleReport:
    """The figures of a comparison with their limits: the given ones override `DEFAULT_LIMITS`. `heard`: those of
    "candidate" and "reference"."""
    wanted = {**DEFAULT_LIMITS, **limits}
    figures = [*_measured(comparison, wanted), *_heard(heard or {}, wanted)]
    return BundleReport(comparison=comparison, figures=tuple(figures), heard=heard or {})


def _measured(found: BundleComparison, limits: Mapping[str, float]) -> Iterator[Figure]:
    forced, step = found.forced, found.step
    rows = [
        ("router-agreement", forced.router_agreement, "equal decisions", f"of {forced.num_tokens:,} forced tokens"),
        ("equal-sets", forced.equal_sets, "tokens whose whole set of experts is equal in a layer", ""),
        ("logit-error", forced.logit_error, "relative error of forced logits", f"largest {forced.max_logit_error:.3g}"),
        ("kl", forced.kl_nats, "divergence of what codes are drawn from, nats", ""),
        ("token-agreement", forced.token_agreement, "likeliest code equal, forced", ""),
        ("equal-runs", found.equal_runs, "answers equal to the last code, same seed", _first_difference(found)),
    ]
    if found.spectral_db is not None:
        beside = f"another seed: {found.other_seed_db:.2f} dB"
        rows.append(("spectral-db", found.spectral_db, "log-mel distance of the audio, dB", beside))
    sizes = f"{size(found.graph_bytes)} of {size(found.reference_graph_bytes)}"
    speed = f"{step.candidate:.2f} ms a step, reference {step.reference:.2f} ms: {step.verdict}"
    rows += [
        ("size", found.size, "bytes of the language model's graphs, part of the reference's", sizes),
        ("speedup", 1 / step.ratio, "times as fast, steps measured in turns; interval at 99 %", speed),
    ]
    for name, value, meaning, beside in rows:
        low, high = found.intervals.get(name, (None, None))
        yield Figure(name=name, value=value, limit=limits.get(name), meaning=meaning, beside=beside, low=low, high=high)


def _first_difference(found: BundleComparison) -> str:
    steps = [step for step in found.first_differences if step is not None]
    if not steps:
        return "no difference"
    first, last = min(steps), max(steps)
    return f"first difference at step {first}" + (f" to {last}" if last > first else "")


def _heard(heard: Mapping[str, Heard], limits: Mapping[str, float]) -> Iterator[Figure]:
    if not heard:
        return
    ours, theirs = heard["candidate"].summary, heard["reference"].summary
    for name, key, sign, meaning in (
        ("word-errors", "wer", 1, "word error rate above the reference's"),
        ("notes", "notes_exact", -1, "share of right notes below the reference's"),
    ):
        if key in ours and key in theirs:
            beside = f"{ours[key]:.4g}, reference {theirs[key]:.4g}"
            low, high = None, None
            if name == "word-errors" and heard["candidate"].words_T:
                beside += f", {count(len(heard['candidate'].words_T), 'text')}"
                low, high = _word_error_interval(heard["candidate"], heard["reference"])
            value = sign * (ours[key] - theirs[key])
            yield Figure(
                name=name, value=value, limit=limits.get(name), meaning=meaning, beside=beside, low=low, high=high
            )


def _word_error_interval(ours: Heard, theirs: Heard) -> tuple[float, float]:
    """The bootstrap interval of the difference of two word error rates over the same texts, at 95 %."""
    more_T = np.asarray(ours.word_errors_T) - np.asarray(theirs.word_errors_T)
    words_T = np.asarray(ours.words_T)
    drawn_RT = np.random.default_rng(0).integers(len(words_T), size=(RESAMPLES, len(words_T)))
    rates_R = more_T[drawn_RT].sum(axis=1) / np.maximum(words_T[drawn_RT].sum(axis=1), 1)
    return percentile_interval(rates_R, _WORD_ERROR_CONFIDENCE)
