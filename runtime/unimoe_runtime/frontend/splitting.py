"""Long texts in pieces that a model can say one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

_CLOSING, _OPENING = r"""["')\]’”]*""", r"""["'(\[‘“]*"""
_SENTENCE_END = re.compile(rf"(?P<last>[^\s.!?…]*)[.!?…]+{_CLOSING}\s+(?={_OPENING}[A-Z0-9])|\n\s*\n")
_CLAUSE_END = re.compile(rf"[,;:]{_CLOSING}\s+|\s[-–—]+\s|\s(?=\()")
_WORD_END = re.compile(r"\s+")


def split_text(text: str, fits: Callable[[str], bool], abbreviations: Collection[str]) -> list[str]:
    """Cut a text until every piece fits: between sentences, else between clauses, else between words.

    Each cut is the one nearest to the middle, so that no piece is a scrap. A piece without any white space is left
    as it is. `abbreviations` are words whose full stop ends no sentence.
    """
    if fits(text):
        return [text]
    known = {short.lower() for short in abbreviations}
    for cuts in (sentence_ends(text, known), clause_ends(text), _ends(text, _WORD_END)):
        inner = [cut for cut in cuts if text[:cut].strip() and text[cut:].strip()]
        if inner:
            cut = min(inner, key=lambda place: abs(2 * place - len(text)))
            halves = text[:cut].strip(), text[cut:].strip()
            return [piece for half in halves for piece in split_text(half, fits, abbreviations)]
    return [text]


def sentence_ends(text: str, abbreviations: Collection[str]) -> Iterator[int]:
    """Where sentences end that another one follows, white space included. `abbreviations` are in lower case."""
    for match in _SENTENCE_END.finditer(text):
        last = match["last"] or ""
        is_initial = len(last) == 1 and last.isupper() and last != "I"
        if not is_initial and last.lower() not in abbreviations:
            yield match.end()


def clause_ends(text: str) -> Iterator[int]:
    """Where clauses end within sentences, white space included."""
    return _ends(text, _CLAUSE_END)


def _ends(text: str, boundary: re.Pattern[str]) -> Iterator[int]:
    return (match.end() for match in boundary.finditer(text))
