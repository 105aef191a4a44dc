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

    return {
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
