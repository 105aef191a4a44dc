"""Which streams take the next step: deadlines, pieces of prompts, skipped streams."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unimoe_runtime.backends.protocol import RowCounts
from unimoe_runtime.synthesis.step_statistics import Durations
from unimoe_runtime.synthesis.turns import next_turn

COUNTS = RowCounts(sizes=(1, 2, 4, 8))


@dataclass(kw_only=True, eq=False)
class Reader:
    deadline: float
    positions_left: int = 0
    steps_left: int = 10
    num_rows: int = 2


@pytest.fixture
def durations() -> Durations:
    """A step takes 10 ms, a position 1 ms."""
    known = Durations()
    known.add_step(2, 0.01)
    known.add_positions(100, 0.1)
    return known


def test_all_that_wait_share_a_step(durations: Durations) -> None:
    readers = [Reader(deadline=at) for at in (3.0, 1.0, 2.0)]
    turn = next_turn(readers, 0.0, durations, COUNTS)
    assert list(turn.batch) == [readers[1], readers[2], readers[0]] and not turn.left_out


def test_the_oldest_deadlines_fill_the_rows(durations: Durations) -> None:
    readers = [Reader(deadline=10.0 - index) for index in range(6)]
    turn = next_turn(readers, 0.0, durations, COUNTS)
    assert list(turn.batch) == readers[:1:-1]


def test_who_would_underrun_goes_without_those_that_have_time(durations: Durations) -> None:
    late, near, far = Reader(deadline=0.05), Reader(deadline=0.3), Reader(deadline=5.0)
    turn = next_turn([far, near, late], 0.0, durations, COUNTS)
    assert list(turn.batch) == [late, near] and list(turn.left_out) == [far]


def test_a_prompt_alone_is_read_whole(durations: Durations) -> None:
    prompt = Reader(deadline=0.1, positions_left=400)
    turn = next_turn([prompt], 0.0, durations, COUNTS)
    assert turn.reading is prompt and turn.num_positions == 400


def test_a_prompt_is_cut_to_the_others_time(durations: Durations) -> None:
    prompt, decoding = Reader(deadline=0.1, positions_left=400), Reader(deadline=0.2)
    turn = next_turn([decoding, prompt], 0.0, durations, COUNTS)
    assert turn.reading is prompt and turn.num_positions == 50, "half of the 100 ms that the other has to spare"
    hurried = next_turn([Reader(deadline=-0.2), prompt], 0.0, durations, COUNTS)
    assert hurried.reading is prompt and hurried.num_positions == 16, "a prompt that is later still goes on in bits"
    assert next_turn([Reader(deadline=-5.0), prompt], 0.0, durations, COUNTS).reading is None


def test_a_prompt_goes_before_steps_that_can_wait(durations: Durations) -> None:
    """Its reader has heard nothing yet. It does not go first where another stream would get late."""
    prompt = Reader(deadline=9.0, positions_left=40)
    turn = next_turn([Reader(deadline=0.5), prompt], 0.0, durations, COUNTS)
    assert turn.reading is prompt and turn.num_positions == 40
    assert next_turn([Reader(deadline=0.12), prompt], 0.0, durations, COUNTS).reading is None


def test_where_places_count_a_prompt_is_not_cut(durations: Durations) -> None:
    prompt, decoding = Reader(deadline=0.1, positions_left=400), Reader(deadline=0.2)
    aligned = RowCounts(sizes=(4, 8), alignment=4)
    assert next_turn([decoding, prompt], 0.0, durations, aligned).num_positions == 400
    readers = [Reader(deadline=1.0) for _ in range(4)]
    assert len(next_turn(readers, 0.0, durations, aligned).batch) == 2, "each takes up four rows"
