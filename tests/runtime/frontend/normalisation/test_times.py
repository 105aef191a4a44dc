"""Times and dates, read back."""

from __future__ import annotations

import datetime

import pytest
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


def said(text: str) -> str:
    return " ".join(word for phrase in read_phrases(text) for word in phrase)


def spoken_day(date: datetime.date) -> str:
    return said(f"{date:%B} {date.day}")


DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days) for days in range(0, 366, 5)]
CERTAIN = ("on {}", "due {}", "until {}", "deadline: {}", "my birthday is {}", "Friday, {}", "Sat. {}", "as of {}")
LIKELY = ("by {}", "before {}", "after {}", "from {} on", "{}", "The shop is closed {}.", "{} was cold")


@pytest.mark.parametrize("form", CERTAIN)
def test_a_word_before_it_makes_every_month_and_day_a_date(form: str) -> None:
    days = [date for date in DAYS if (date.month, date.day) != (9, 11)]
    wrong = [date for date in days if spoken_day(date) not in said(form.format(f"{date.month}/{date.day}"))]
    assert not wrong


@pytest.mark.parametrize("form", LIKELY)
def test_a_day_above_twelve_makes_a_date(form: str) -> None:
    days = [date for date in DAYS if date.day > 12 and (date.day != 16 or date.month % 2 == 0)]
    wrong = [date for date in days if spoken_day(date) not in said(form.format(f"{date.month}/{date.day}"))]
    assert not wrong


@pytest.mark.parametrize(
    "form", ["{} of it", "{} cup", "a {} inch bolt", "{} = x", "x + {}", "{} scale", '{}"', "{} km"]
)
def test_a_share_of_something_is_a_fraction(form: str) -> None:
    for written in ("1/2", "3/4", "5/16", "7/20", "11/24", "12/25"):
        assert not any(month in said(form.format(written)).split() for month in MONTHS)


@pytest.mark.parametrize("form", ["{}", "by {}", "about {}", "from {} to 5/6", "{} done"])
def test_small_fractions_stay_fractions(form: str) -> None:
    wrong = [
        f"{part}/{parts}"
        for parts in range(2, 13)
        for part in range(1, parts)
        if any(month in said(form.format(f"{part}/{parts}")).split() for month in MONTHS)
        and (part, parts) not in ((9, 11), (7, 11))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("written", "speech"),
    [
        ("25/12", "the twenty fifth of december"),
        ("until 31/3", "until the thirty first of march"),
        ("16/9", "sixteen ninths"),
        ("12/1-12/24", "december first to december twenty fourth"),
        ("from 12/20 to 1/3", "from december twentieth to january third"),
        ("12/25, 2026", "december twenty fifth twenty twenty six"),
        ("the 7/4 weekend", "the july fourth weekend"),
        ("3/4 at 5pm", "march fourth at five P M"),
        ("on 9/11", "on nine eleven"),
        ("on 9/11/2001", "on september eleventh two thousand one"),
        ("24/7", "twenty four seven"),
        ("12/15 questions", "twelve fifteenths questions"),
        ("on 40/50", "on forty fiftieths"),
        ("1/1/00", "january first two thousand"),
    ],
)
def test_days_with_a_slash(written: str, speech: str) -> None:
    assert said(written) == speech
