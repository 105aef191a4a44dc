"""Chooses the clips that are worth training on: metric limits, no duplicate text or sound, balanced domains.

The result is another corpus. Its audio files are hard links to the first corpus's, or copies where links fail.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import INDEX, Corpus, Item, write_index
from unimoe.data.metrics import near_copies, unpack_fingerprint
from unimoe_runtime.errors import ConfigError, OutputError
from unimoe_runtime.files.atomic import write_atomically

Range = tuple[float, float]

SPEECH_LIMITS: Final[Mapping[str, Range]] = {
    "duration_s": (0.3, 15.0), "level_db": (-45.0, -8.0), "clipped_share": (0.0, 0.001), "silence_share": (0.0, 0.7),
    "snr_db": (15.0, 120.0), "bandwidth_hz": (400.0, 1e6), "sounds_per_s": (2.0, 30.0), "wer": (0.0, 0.8),
    "dnsmos": (2.0, 5.0),
}  # fmt: skip
"""Minimum and maximum of each metric. A metric that was not measured limits nothing."""
MUSIC_LIMITS: Final[Mapping[str, Range]] = {
    "duration_s": (0.5, 30.0), "level_db": (-50.0, -6.0), "clipped_share": (0.0, 0.001), "silence_share": (0.0, 0.8),
    "bandwidth_hz": (150.0, 1e6),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FilterRecipe:
    """Settings of the filter. `speech` and `music` replace single limits of SPEECH_LIMITS and MUSIC_LIMITS.

    `near_copy`: product of fingerprints (1 is equal) from which a clip counts as a copy of another. `balance`: cut the
    larger domain's training split down to the hours of the smaller one, evenly over its sources.
    """

    speech: dict[str, Sequence[float]] = field(default_factory=dict)
    music: dict[str, Sequence[float]] = field(default_factory=dict)
    near_copy: float = 0.999
    balance: bool = False

    def __post_init__(self) -> None:
        for domain, known in (("speech", SPEECH_LIMITS), ("music", MUSIC_LIMITS)):
            for name, limits in getattr(self, domain).items():
                if name not in known:
                    raise ConfigError(f"{domain} limits {name!r}; it can be {', '.join(known)}")
                if len(limits) != 2 or limits[0] > limits[1]:
                    raise ConfigError(f"{domain}.{name} is {limits!r}; give its least and most, as [0.5, 8.0]")
        if not 0 < self.near_copy <= 1:
            raise ConfigError(f"near_copy is {self.near_copy}; it must be above 0 and at most 1")

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> FilterRecipe:
        """A recipe's section [filter]. Raises ConfigError for an unknown field."""
        unknown = sorted(set(section) - {known.name for known in fields(cls)})
        if unknown:
            raise ConfigError(f"[filter] has the field {unknown[0]!r}; known: {', '.join(f.name for f in fields(cls))}")
        return cls(**section)

    def limits(self, domain: str) -> dict[str, Range]:
        given = self.speech if domain == "speech" else self.music
        changed = {name: (float(low), float(high)) for name, (low, high) in given.items()}
        return {**(SPEECH_LIMITS if domain == "speech" else MUSIC_LIMITS), **changed}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """For each clip the reason why it is left out, or an empty string."""

    reasons: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many clips each reason removed, largest count first."""
        return dict(Counter(reason for reason in self.reasons if reason).most_common())


def judge_clips(corpus: Corpus, metrics: Sequence[Mapping[str, Any]], recipe: FilterRecipe) -> Verdict:
    """Decide on every clip. Where several reasons hold, the first one counts."""
    reasons = [_limit_reason(item, values, recipe) for item, values in zip(corpus, metrics, strict=True)]
    _mark_same_text(corpus, reasons)
    _mark_copies(corpus, metrics, reasons, recipe.near_copy)
    _mark_leaks(corpus, reasons)
    if recipe.balance:
        _mark_surplus(corpus, reasons)
    return Verdict(reasons=tuple(reasons))


def _limit_reason(item: Item, values: Mapping[str, Any], recipe: FilterRecipe) -> str:
    for name, (low, high) in recipe.limits(item.domain).items():
        if name in values and values[name] < low:
            return f"{item.domain}: {name} below {low:g}"
        if name in values and values[name] > high:
            return f"{item.domain}: {name} above {high:g}"
    return ""


def _mark_same_text(corpus: Corpus, reasons: list[str]) -> None:
    """Mark the same text by the same voice, and the same notes on the same instrument at the same tempo."""
    seen: set[tuple[object, ...]] = set()
    for index, item in enumerate(corpus):
        if reasons[index] or not item.text or not item.captioned:
            continue
        asked = (*item.request(), item.source if not item.voice and not item.instrument else "")
        if asked in seen:
            reasons[index] = f"{item.domain}: same text as another clip of this voice or instrument"
        seen.add(asked)


def _mark_copies(corpus: Corpus, metrics: Sequence[Mapping[str, Any]], reasons: list[str], at_least: float) -> None:
    """Mark equal samples anywhere, and near copies within a voice or an instrument, or else within a source."""
    heard: set[str] = set()
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(corpus):
        if reasons[index]:
            continue
        clip = str(metrics[index]["clip"])
        if clip in heard:
            reasons[index] = f"{item.domain}: same sound as another clip"
            continue
        heard.add(clip)
        groups.setdefault(item.voice or item.instrument or item.source, []).append(index)
    for indices in groups.values():
        prints = [unpack_fingerprint(str(metrics[index]["fingerprint"])) for index in indices]
        lengths = [corpus[index].length for index in indices]
        for index, copied in zip(indices, near_copies(prints, lengths, at_least=at_least), strict=True):
            if copied >= 0:
                reasons[index] = f"{corpus[index].domain}: nearly the same sound as another clip"


def _mark_leaks(corpus: Corpus, reasons: list[str]) -> None:
    """Mark training clips whose text is also in another split, as can happen where folders are joined."""
    held_out = {(item.domain, item.text) for item in corpus if item.split != "train" and item.text}
    for index, item in enumerate(corpus):
        if not reasons[index] and item.split == "train" and (item.domain, item.text) in held_out:
            reasons[index] = f"{item.domain}: text is held out"


def _mark_surplus(corpus: Corpus, reasons: list[str]) -> None:
    lengths: Counter[str] = Counter()
    for index, item in enumerate(corpus):
        if not reasons[index] and item.split == "train":
            lengths[item.domain] += item.length
    if len(lengths) < 2:
        return
    allowed = min(lengths.values())
    for domain in lengths:
        kept = 0
        for index in _turns(corpus, reasons, domain):
            if kept + corpus[index].length > allowed:
                reasons[index] = f"{domain}: more than the other domain has"
            else:
                kept += corpus[index].length


def _turns(corpus: Corpus, reasons: Sequence[str], domain: str) -> list[int]:
    """Training clips of a domain, alternating between its sources, in an order fixed by a seed within each source."""
    sources: dict[str, list[int]] = {}
    for index, item in enumerate(corpus):
        if not reasons[index] and item.split == "train" and item.domain == domain:
            sources.setdefault(item.source, []).append(index)
    rng = np.random.default_rng(0)
    ranked = [(place, index) for group in sources.values() for place, index in enumerate(rng.permutation(group))]
    return [int(index) for _, index in sorted(ranked)]


def link_audio(source: Path, target: Path) -> None:
    """Put the same audio file into another corpus: as a hard link, or as a copy where linking fails."""
    if target.exists():
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def require_another(folder: Path, out: Path) -> None:
    """Raise OutputError where `out` is the corpus itself."""
    if out.resolve() == folder.resolve():
        raise OutputError(f"{out} is the corpus itself: give another folder for what is kept")


def write_filtered(
    corpus: Corpus,
    folder: Path,
    out: Path,
    metrics: Sequence[Mapping[str, Any]],
    verdict: Verdict,
    recipe: FilterRecipe,
) -> Corpus:
    """Write the kept clips with their metrics, and filtered.json with what was left out and why."""
    require_another(folder, out)
    kept = [index for index, reason in enumerate(verdict.reasons) if not reason]
    if not kept:
        reasons = ", ".join(f"{amount:,} {reason}" for reason, amount in verdict.counts().items())
        raise OutputError(f"{folder}: no clip is within the limits ({reasons}); widen them")
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)  # an old index does not describe the new audio
    sources = list(dict.fromkeys(corpus[index].source for index in kept))
    for source in sources:
        link_audio(folder / f"{source}.npy", out / f"{source}.npy")
    lines = []
    for index in kept:
        values = {name: value for name, value in metrics[index].items() if name not in ("clip", "fingerprint")}
        lines.append({**corpus[index].to_dict(), "clip": metrics[index]["clip"], "metrics": values})
    facts = {
        "from": str(folder), "clips": len(corpus), "kept": len(kept), "left_out": verdict.counts(),
        "limits": {domain: recipe.limits(domain) for domain in ("speech", "music")},
        "near_copy": recipe.near_copy, "balance": recipe.balance,
    }  # fmt: skip
    write_atomically(out / "filtered.json", json.dumps(facts, indent=1) + "\n")
    write_index(
        out,
        lines,
        sample_rate_hz=corpus.sample_rate_hz,
        licences={source: corpus.licences[source] for source in sources},
        seed=0,
        details={source: corpus.details[source] for source in sources if source in corpus.details},
    )
    return Corpus.open(out)
