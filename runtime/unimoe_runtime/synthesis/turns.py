"""Who comes next: the prompt or the streams with the least time to spare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from unimoe_runtime.backends.protocol import RowCounts
from unimoe_runtime.synthesis.step_statistics import Durations

# A stream with so much time to spare is left out of a step where another is late.
_TO_SPARE_S = 0.5
# How long a prompt's pass may take while others decode.
_LONGEST_PIECE_S = 0.1
# A shorter piece saves little: a pass over a few positions reads most of the weights, too.
_SHORTEST_PIECE = 16


class Waiting(Protocol):
    """A stream whose reader waits for frames, until `deadline` (a time of `time.perf_counter`)."""

    deadline: float
    positions_left: int
    """Of its prompt; 0 once it decodes."""

    @property
    def steps_left(self) -> int: ...

    @property
    def num_rows(self) -> int: ...


Stream = TypeVar("Stream", bound=Waiting)


@dataclass(frozen=True, kw_only=True)
class Turn(Generic[Stream]):
    """Either `num_positions` of the prompt of `reading`, or a step of all in `batch`. `left_out`: streams that wait as
    well, and must take up no rows."""

    reading: Stream | None = None
    num_positions: int = 0
    batch: Sequence[Stream] = ()
    left_out: Sequence[Stream] = ()


def next_turn(streams: Sequence[Stream], now: float, durations: Durations, counts: RowCounts) -> Turn[Stream]:
    """The turn of the streams that wait, by the least time to spare: the time left until the deadline, less what the
    work until then takes.

    A prompt is read whole where nobody decodes; otherwise in pieces that fit into the others' spare time.
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
    first = ordered[0]
    if first.positions_left:
        length = first.positions_left
        # Where a row's place decides its last bits, so would the cut.
        if decoding and counts.alignment == 1:
            piece_s = min(spare_s[id(decoding[0])] / 2, _LONGEST_PIECE_S)
            fitting = int(piece_s / durations.position_s) if durations.position_s else 0
            length = min(length, max(fitting, _SHORTEST_PIECE))
        return Turn(reading=first, num_positions=length)
    late = spare_s[id(decoding[0])] < 0
    num_rows = num_streams = 0
    for stream in decoding:
        num_rows += counts.places(stream.num_rows)
        if num_streams and (num_rows > counts.most or (late and spare_s[id(stream)] > _TO_SPARE_S)):
            break
        num_streams += 1
    return Turn(batch=decoding[:num_streams], left_out=decoding[num_streams:])
