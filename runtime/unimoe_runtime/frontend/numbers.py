"""English number words, for corpora."""

from __future__ import annotations

from unimoe_runtime.frontend.normalisation import open_language


def cardinal(number: int) -> list[str]:
    """Words of a number."""
    return open_language("en").numbers.cardinal(number)


def ordinal(number: int) -> list[str]:
    """Words of a rank."""
    return open_language("en").numbers.ordinal(number)
