"""Values of tags and marks: attributes, lengths of time, speaking rates."""

from __future__ import annotations

import re

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.options import FASTEST, SLOWEST

_SECONDS = re.compile(r"\+?(\d{1,6}(?:\.\d{1,4})?|\.\d{1,4})\s*(ms|s|sec|seconds?|milliseconds?)?")
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.6}
LONGEST_PAUSE_S = 10.0


def parse_seconds(text: str, written: str) -> float:
    """Seconds of `500ms`, `1.5s` or `2`. Raises PromptError for anything else and for more than 10 s."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise PromptError(f"{written}: {text!r} is not a length of time: write 500ms or 1.5s")
    milli = (match[2] or "s").startswith("m")
    seconds = float(match[1]) / (1000 if milli else 1)
    if seconds > LONGEST_PAUSE_S:
        raise PromptError(f"{written}: a pause can last at most {LONGEST_PAUSE_S:g} s")
    return seconds


def parse_rate(text: str) -> float:
    """A speaking rate: `slow`, `fast`, `120%`, `+20%`, `1.2`. Raises PromptError for anything else or out of range."""
    rate = _RATES.get(text.strip().lower())
    match = re.fullmatch(r"([+-])?(\d{1,4}(?:\.\d{1,4})?)(%)?", text.strip())
    if rate is None and match is not None:
        amount = float(match[2]) / (100 if match[3] else 1)
        rate = amount if match[1] is None else 1 + amount if match[1] == "+" else 1 - amount
    if rate is None:
        raise PromptError(f"rate is {text!r}; it can be {', '.join(_RATES)}, or a number such as 120% or 1.2")
    if not SLOWEST <= rate <= FASTEST:
        raise PromptError(f"rate is {text!r}; it must be from {SLOWEST} to {FASTEST:g}")
    return rate


def read_attributes(text: str) -> dict[str, str]:
    """A tag's attributes by their names in lower case."""
    return {name.lower(): first or second for name, first, second in _ATTRIBUTE.findall(text or "")}
