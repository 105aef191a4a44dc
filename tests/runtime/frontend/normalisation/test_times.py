"""Times and dates, read back."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.frontend.normalisation.reading_back import number, rank, year
from unimoe_runtime.frontend.reading import read_phrases

MONTHS = "january february march april may june july august september october november december".split()


@given(st.integers(0, 23), st.integers(1, 59))
def test_times_can_be_read_back(hour: int, minute: int) -> None:
    [words] = read_phrases(f"{hour}:{minute:02}")
    plain = [word for word in words if word != "oh"]
    cuts = [at for at in range(1, len(plain)) if (number(plain[:at]), number(plain[at:])) == (hour, minute)]
    assert cuts and ("oh" in words) == (minute < 10)


@given(st.integers(1, 12), st.integers(0, 59), st.sampled_from(["am", "a.m.", " AM", " A.M."]))
def test_half_days_in_every_spelling(hour: int, minute: int, half: str) -> None:
    [words] = read_phrases(f"at {hour}:{minute:02}{half}")
    assert words[-2:] == ["A", "M"]
    assert number(words[1:2]) == hour


@given(
    st.dates(datetime.date(1100, 1, 1), datetime.date(2099, 12, 31)),
    st.sampled_from(["{0:%B} {1}, {2}", "{0:%b}. {1}, {2}", "{2}-{0:%m-%d}", "{0:%m/%d}/{2}", "{1} {0:%B} {2}"]),
)
def test_dates_can_be_read_back(date: datetime.date, form: str) -> None:
    [words] = read_phrases(form.format(date, date.day, date.year).replace("Sep.", "Sept."))
    month = next(word for word in words if word in MONTHS)
    assert MONTHS.index(month) + 1 == date.month
    rest = [word for word in words if word not in ("the", "of", month)]
    cut = next(at for at in range(1, len(rest)) if rest[at - 1].endswith(("st", "nd", "rd", "th")))
    assert rank(rest[:cut]) == date.day
    assert year(rest[cut:]) == date.year
