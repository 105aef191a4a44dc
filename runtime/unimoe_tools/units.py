"""The text form of figures, the same in every table, message and page.

Bytes are decimal (1 MB = 10⁶ bytes). A time below one second is in milliseconds, above it in seconds, above two minutes
in minutes. Every figure has three digits; more would claim a precision that none of the measurements has.
"""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 123, 12,345."""
    if value != value or abs(value) == float("inf"):
        return str(value)
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.3g}"
    digits = f"{value:.2e}"
    exponent = int(digits.partition("e")[2])
    return digits.replace("e-0", "e-") if exponent < -4 else f"{value:.{2 - exponent}f}"


def size(num_bytes: float) -> str:
    """Bytes with their unit: 812 kB, 40.6 MB, 1.24 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(num_bytes) >= factor * 0.9995:
            return f"{number(num_bytes / factor)} {unit}"
    return f"{num_bytes:.0f} bytes"


def parameters(amount: float) -> str:
    """A model's number of parameters: 4.85 million parameters, 7.16 billion parameters."""
    factor, word = (1e9, "billion") if amount >= 1e9 else (1e6, "million")
    return f"{number(amount / factor)} {word} parameters"


def duration(seconds: float) -> str:
    """A time with its unit: 4.12 ms, 812 ms, 5.3 s, 3 min 20 s."""
    if abs(seconds) < 1:
        return f"{number(1e3 * seconds)} ms"
    if abs(seconds) < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return f"{100 * share:.{digits}f} %"


def span(values: Sequence[float]) -> str:
    """Best, middle and worst as `35 (15–77)`, with two digits, because an estimate is not more precise."""
    low, middle, high = map(_two_digits, values)
    return f"{middle} ({low}–{high})"


def _two_digits(value: float) -> str:
    if abs(value) >= 100 or value == 0:
        return f"{float(f'{value:.2g}'):,.0f}"
    return f"{value:.0f}" if abs(value) >= 10 else f"{float(f'{value:.2g}'):g}"


def time_column(title: str, spans_ms: Sequence[Sequence[float] | None]) -> tuple[str, float]:
    """The title of a column of times in one unit, and the factor for values in milliseconds: seconds where at least
    half of the middle values are above one second."""
    middles = sorted(one[1] for one in spans_ms if one)
    in_seconds = bool(middles) and middles[len(middles) // 2] >= 1000
    return (f"{title} s", 1e-3) if in_seconds else (f"{title} ms", 1.0)


def plus_minus(value: float, error: float | None, digits: int) -> str:
    """A mean with its error: `3.42 ± 0.05`."""
    return f"{value:,.{digits}f}" if error is None else f"{value:,.{digits}f} ± {error:,.{digits}f}"


def count(amount: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 row, 2 rows."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"
