"""The scheduler's next turn: the prompt or the streams with the least time to spare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from unimoe_runtime.backends.protocol import RowCounts
from unimoe_runtime.synthesis.step_statistics import Durations

# A stream with at least this much time to spare is left out of a step if another one is late.
_TO_SPARE_S = 0.5
# Limit on the time of a prompt pass while others decode.
_LONGEST_PIECE_S = 0.1
# A shorter piece saves little, because a pass over a few positions also reads most of the weights.
_SHORTEST_PIECE = 16


class Waiting(Protocol):
    """A stream whose reader waits for frames, until `deadline` (a time of `time.perf_counter`)."""

    deadline: float
    positions_left: int
    """Positions of its prompt that are left to read; 0 once it decodes."""

    @property
    def steps_left(self) -> int: ...

    @property
    def num_rows(self) -> int: ...


Stream = TypeVar("Stream", bound=Waiting)


@dataclass(frozen=True, kw_only=True)
class Turn(Generic[Stream]):
    """Either `num_positions` of the prompt of `reading`, or a step of all in `batch`. `left_out`: further waiting
    streams, which must not occupy rows."""

    reading: Stream | None = None
    num_positions: int = 0
    batch: Sequence[Stream] = ()
    left_out: Sequence[Stream] = ()


def next_turn(streams: Sequence[Stream], now: float, durations: Durations, counts: RowCounts) -> Turn[Stream]:
    """The turn of the waiting streams, by the least time to spare: the time until the deadline, less the time that the
    work until then takes.

    A prompt is read before a step if no stream gets late by that, because its reader has heard nothing yet. It is read
    whole if no stream decodes; otherwise in pieces that fit into the others' spare time.
    """
    if len(streams) == 1:
        only = streams[0]
        return Turn(reading=only, num_positions=only.positions_left) if only.positions_left else Turn(batch=streams)
    step_s = durations.step_s(len(streams))
    spare_s = {
        id(stream): stream.deadline - now - stream.steps_left * step_s - stream.positions_left * durations.position_s
        for stream in streams
    }
    ordered = sorted(streams, key=lambda stream: spare_s[id(stream)])
    decoding = [stream for stream in ordered if not stream.positions_left]
    if len(decoding) < len(ordered):
        first = next(stream for stream in ordered if stream.positions_left)
        length = first.positions_left
        if decoding:
            piece_s = min(spare_s[id(decoding[0])] / 2, _LONGEST_PIECE_S)
            fitting = int(piece_s / durations.position_s) if durations.position_s else 0
            is_due = first is ordered[0] or fitting >= min(length, _SHORTEST_PIECE)
            # Where a row's index affects its last bits, the division into pieces would too: it is read whole.
            if counts.alignment == 1:
                length = min(length, max(fitting, _SHORTEST_PIECE))
        if not decoding or is_due:
            return Turn(reading=first, num_positions=length)
    late = spare_s[id(decoding[0])] < 0
    num_rows = num_streams = 0
    for stream in decoding:
        num_rows += counts.places(stream.num_rows)
        if num_streams and (num_rows > counts.most or (late and spare_s[id(stream)] > _TO_SPARE_S)):
            break
        num_streams += 1
    return Turn(batch=decoding[:num_streams], left_out=decoding[num_streams:])
