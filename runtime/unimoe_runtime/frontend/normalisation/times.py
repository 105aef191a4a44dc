"""Times of day, durations and dates."""

from __future__ import annotations

from collections.abc import Mapping

from unimoe_runtime.frontend.normalisation.numbers import Numbers
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary


def time_readers(numbers: Numbers, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Reader]:
    """Readers of hours, minutes, seconds and abbreviated years."""
    terms = numbers.terms

    def minutes(text: str, reading: Reading) -> list[str]:
        """Minutes after an hour: 30 thirty, 05 oh five, 00 nothing."""
        number = int(text)
        return [*([terms["oh"]] if 0 < number < 10 else []), *(numbers.cardinal(number) if number else [])]

    def full_hour(text: str, reading: Reading) -> list[str]:
        """An hour without minutes: 7 seven o'clock, 17 seventeen hundred."""
        number = int(text)
        return [*numbers.cardinal(number), terms["o'clock" if number <= 12 else "hundred"]]

    halves = vocabularies.get("half_days", Vocabulary(words={}))

    def half_day(text: str, reading: Reading) -> list[str]:
        """a.m. and p.m. in any spelling."""
        return (halves.find("".join(letter for letter in text if letter.isalpha())) or "").split()

    def number_of(singular: str, plural: str) -> Reader:
        def read(text: str, reading: Reading) -> list[str]:
            whole, _, decimals = text.partition(".")
            words = numbers.number(f"{int(whole)}.{decimals}" if decimals else str(int(whole)))
            return [*words, terms[singular if text.lstrip("0") == "1" else plural]]

        return read

    months = vocabularies.get("month_numbers", Vocabulary(words={}))

    def day_certain(text: str, reading: Reading) -> list[str] | None:
        """A day as 12/25, or as 25/12 where the second number alone can be a month."""
        first, second = map(int, text.split("/"))
        month, day = (first, second) if first <= 12 else (second, first)
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return None
        name, rank = (months.find(str(month)) or "").split(), numbers.ordinal(day)
        return [*name, *rank] if month == first else [terms["the"], *rank, terms["of"], *name]

    def can_be_fraction(text: str) -> bool:
        first, second = map(int, text.split("/"))
        return first < second and (second <= 12 or (second == 16 and first % 2 == 1))

    def day_likely(text: str, reading: Reading) -> list[str] | None:
        """The same, but 3/4 and 5/16 are fractions."""
        return None if can_be_fraction(text) else day_certain(text, reading)

    def day_of_range(text: str, reading: Reading) -> list[str] | None:
        """The same, where one of `x` and `y` is no fraction."""
        both = all(can_be_fraction(reading.groups[one]) for one in ("x", "y"))
        return None if both else day_certain(text, reading)

    def day_alone(text: str, reading: Reading) -> list[str] | None:
        """The same, where the text around it says nothing: with a day above 12, and a month of two digits after it."""
        first, second = map(int, text.split("/"))
        is_date = second > 12 if first <= 12 else second >= 10
        return day_likely(text, reading) if is_date else None

    return {
        "day_certain": day_certain,
        "day_likely": day_likely,
        "day_of_range": day_of_range,
        "day_alone": day_alone,
        "minutes": minutes,
        "full_hour": full_hour,
        "hours_long": number_of("hour", "hours"),
        "minutes_long": number_of("minute", "minutes"),
        "seconds_long": number_of("second", "seconds"),
        "half_day": half_day,
        "military": lambda text, reading: minutes(text, reading) or [terms["hundred"]],
        "hour": lambda text, _: numbers.cardinal(int(text)),
        "day": lambda text, _: numbers.ordinal(int(text)),
    }
