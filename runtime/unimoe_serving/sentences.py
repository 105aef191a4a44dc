"""Sentences of a text that arrives in pieces, each as soon as its end is certain."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from unimoe_runtime.frontend.splitting import clause_ends, sentence_ends

_LONGEST = 240
"""Characters after which an unfinished sentence is cut between clauses, so that speech need not wait for its end."""


class SentenceCutter:
    """Cuts a text that arrives in pieces into sentences.

    A sentence's end is certain when the next one has begun. `abbreviations` are words whose full stop does not end a
    sentence.
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
        """The remaining text, after the last piece."""
        rest, self._text = self._text.strip(), ""
        return [rest] if rest else []

    def clear(self) -> None:
        """Discard the waiting text."""
        self._text = ""

    @property
    def num_waiting(self) -> int:
        """Number of characters that wait for the end of their sentence."""
        return len(self._text)
