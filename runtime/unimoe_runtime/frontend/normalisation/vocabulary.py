"""A vocabulary: written forms and their spoken forms."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """`words` by their written form. `exact`: case-sensitive. A space in a form stands for any white space."""

    words: dict[str, str]
    exact: bool = False

    @functools.cached_property
    def _folded(self) -> dict[str, str]:
        return {written.lower(): spoken for written, spoken in reversed(self.words.items())}

    def __contains__(self, written: str) -> bool:
        return self.find(written) is not None

    def find(self, written: str) -> str | None:
        """The spoken form, None where it is not listed. An entry with the same capitals has priority over any other."""
        written = " ".join(written.split())
        found = self.words.get(written)
        return found if found is not None or self.exact else self._folded.get(written.lower())

    @functools.cached_property
    def pattern(self) -> str:
        """A regular expression for any entry, the longest first."""
        listed = sorted(self.words, key=len, reverse=True)
        choice = "|".join(re.escape(written).replace(r"\ ", r"\s+") for written in listed)
        return choice if self.exact else f"(?i:{choice})"
