"""Masking and splitting of a prompt."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unimoe_runtime.synthesis.prompt_pass import cache_capacity, piece_length, prompt_mask, shrunk_capacity


@given(st.integers(0, 900), st.integers(1, 900))
def test_pieces_are_never_one_position_of_several(wanted: int, left: int) -> None:
    pieces = []
    total = left
    while left:
        pieces.append(piece_length(wanted, left))
        left -= pieces[-1]
    assert sum(pieces) == total
    assert pieces == [1] or min(pieces) > 1
    assert max(pieces) <= 257


@given(st.integers(1, 5000))
def test_capacities_are_whole_sixteens_with_an_eighth_of_empty_slots_at_most(num_positions: int) -> None:
    capacity = cache_capacity(num_positions)
    assert 0 <= capacity - num_positions < max(16, num_positions / 8 + 1) and capacity % 16 == 0
    assert cache_capacity(capacity) == capacity


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_cache_shrinks_once_it_is_a_quarter_or_two_sixteens_too_large(longest: int, left: int) -> None:
    before = cache_capacity(longest)
    after = shrunk_capacity(min(left, longest), before)
    needed = cache_capacity(min(left, longest))
    assert after in (needed, before)
    assert after == needed or before - needed < max(32, needed / 4 + 2)
    assert after == before or before - after >= 32


def test_a_mask_hides_the_future_and_the_padding() -> None:
    mask_B1TS = prompt_mask(np.array([[False, True, True], [True, True, True]]), 5)
    assert mask_B1TS.shape == (2, 1, 3, 5)
    assert mask_B1TS[0, 0].tolist() == [
        [True, False, False, False, False],  # a padded position attends to itself
        [False, True, False, False, False],
        [False, True, True, False, False],
    ]
    np.testing.assert_array_equal(mask_B1TS[1, 0, :, :3], np.tri(3, dtype=bool))
