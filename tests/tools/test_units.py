"""Figures have one format everywhere."""

from __future__ import annotations

import pytest

from unimoe_tools.units import count, duration, number, percent, plus_minus, size, span, time_column


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (size(40_571_000), "40.6 MB"), (size(812_000), "812 kB"), (size(1_240_000_000), "1.24 GB"),
        (size(5), "5 bytes"),
        (duration(0.00412), "4.12 ms"), (duration(5.31), "5.3 s"), (duration(200), "3 min 20 s"),
        (number(0.0123), "0.0123"), (number(12345), "12,345"), (number(0), "0"),
        (span((15.1, 35.2, 77.4)), "35 (15–77)"), (span((0.23, 0.56, 1.31)), "0.56 (0.23–1.3)"),
        (percent(0.973), "97.3 %"), (plus_minus(3.417, 0.052, 2), "3.42 ± 0.05"), (count(1, "row"), "1 row"),
    ],
)  # fmt: skip
def test_words(told: str, words: str) -> None:
    assert told == words


def test_a_column_of_times_has_one_unit() -> None:
    assert time_column("step", [(1.0, 2.0, 3.0)]) == ("step ms", 1.0)
    assert time_column("first", [(900.0, 2000.0, 3000.0), None]) == ("first s", 1e-3)
