"""Simulated playback: when audio could begin, and whether it would stop to wait for the next chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Playback:
    """Playback that starts with the first chunk. `first_ms` counts from the request; `slack_ms`: the smallest time
    between a later chunk's readiness and its deadline, negative where it was late; None with one chunk."""

    first_ms: float
    underruns: int
    stalled_ms: float
    slack_ms: float | None


def play(chunks: Sequence[tuple[float, float]]) -> Playback | None:
    """Play one utterance's chunks, given as (ready_ms, lasts_ms) in order. After an underrun playback continues as soon
    as the chunk arrives. None without any audio."""
    sounding = [(ready_ms, lasts_ms) for ready_ms, lasts_ms in chunks if lasts_ms > 0]
    if not sounding:
        return None
    first_ms, lasts_ms = sounding[0]
    until_ms = first_ms + lasts_ms
    slacks = []
    stalled_ms = 0.0
    for ready_ms, lasts_ms in sounding[1:]:
        slacks.append(until_ms - ready_ms)
        stalled_ms += max(0.0, ready_ms - until_ms)
        until_ms = max(until_ms, ready_ms) + lasts_ms
    underruns = sum(slack < 0 for slack in slacks)
    return Playback(first_ms=first_ms, underruns=underruns, stalled_ms=stalled_ms, slack_ms=min(slacks, default=None))
