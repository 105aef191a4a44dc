"""Sentences out of a text that comes in pieces, each as soon as it is certain where it ends."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from unimoe_runtime.frontend.splitting import clause_ends, sentence_ends

_LONGEST = 240
"""Characters after which a sentence without an end is cut between clauses, so that it need not be waited for."""


class SentenceCutter:
    """Takes pieces of a text, gives its sentences.

    A sentence is certain to have ended when the next one has begun. `abbreviations` are words whose full stop ends
    none.
    """

    def __init__(self, abbreviations: Collection[str] = ()) -> None:
        self._abbreviations = {short.lower() for short in abbreviations}
        self._text = ""

    def add(self, piece: str) -> list[str]:
        """The sentences that are complete with this piece."""
        self._text += piece
        ends = list(sentence_ends(self._text, self._abbreviations))
        if not ends and len(self._text) > _LONGEST:
            ends = list(clause_ends(self._text))[-1:]
        sentences = [self._text[begin:end].strip() for begin, end in pairwise([0, *ends])]
        self._text = self._text[ends[-1] :] if ends else self._text
        return [sentence for sentence in sentences if sentence]

    def flush(self) -> list[str]:
        """What is left, now that nothing more comes."""
        rest, self._text = self._text.strip(), ""
        return [rest] if rest else []

    def clear(self) -> None:
        """Forget what waits."""
        self._text = ""

    @property
    def num_waiting(self) -> int:
        """Characters that wait for the end of their sentence."""
        return len(self._text)
