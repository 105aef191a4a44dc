"""Words of plain texts, for corpora."""

from __future__ import annotations

from collections.abc import Mapping

from unimoe_runtime.frontend.reading import read_phrases


def phrases(text: str, abbreviations: Mapping[str, str]) -> list[list[str]]:
    """The words of a plain text, by phrases."""
    return read_phrases(text)
