"""Splitting long texts into pieces that the model can speak one after another."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Break, Item, Pause, Unit

_CLOSING, _OPENING = r"""["')\]’”]*""", r"""["'(\[‘“]*"""
# A match begins where a word or a run of stops begins, and takes it whole: the time is linear in the text's length.
_SENTENCE_END = re.compile(
    rf"(?:(?<![^\s.!?…])(?P<last>[^\s.!?…]++)|(?<!\S))[.!?…]++{_CLOSING}\s+(?={_OPENING}[A-Z0-9])|\n\s*\n"
)
_CLAUSE_END = re.compile(rf"[,;:]{_CLOSING}\s+|\s[-–—]+\s|\s(?=\()")

Seconds = Callable[[Item], float]
"""Estimated seconds of an item."""


def split_items(
    items: Iterable[Item], seconds: Seconds, limit_s: float, first_s: float, *, longest_pause_s: float = 1e9
) -> Iterator[list[Item]]:
    """Cut a text lazily into pieces of at most `limit_s`. A pause above `longest_pause_s` ends a piece.

    A text that fits is one piece. A longer one starts with a short piece, of `first_s` where a sentence or a clause
    permits it, so that its audio starts early. Cuts are at sentence ends, else between clauses, else between units; a
    unit is cut only where it alone is too long.
    """
    held: list[Item] = []
    held_s, is_first = 0.0, True
    for item in _of_size(items, seconds, limit_s):
        item_s = seconds(item)
        while held and held_s + item_s > limit_s and isinstance(item, Unit):
            cut = _first_cut(held, seconds, first_s) if is_first else _last_cut(held)
            is_first = False
            piece, held = held[:cut], held[cut:]
            held_s = sum(map(seconds, held))
            if any(isinstance(one, Unit) for one in piece):
                yield piece
        if held or isinstance(item, Unit):
            held.append(item)
            held_s += item_s
        if held and isinstance(item, Pause) and (item.seconds or 0) > longest_pause_s:
            yield held
            held, held_s, is_first = [], 0.0, False
    if any(isinstance(one, Unit) for one in held):
        yield held


def _first_cut(items: Sequence[Item], seconds: Seconds, first_s: float) -> int:
    """The end of the first piece: the first sentence end; if that is far, a clause end; else a gap between words."""
    passed_s, clauses, words = 0.0, {}, 0
    for index, item in enumerate(items, start=1):
        passed_s += seconds(item)
        if passed_s > 2 * first_s:
            break
        words = index
        if isinstance(item, Pause):
            if item.strength >= Break.SENTENCE:
                return index
            clauses[index] = abs(passed_s - first_s)
    return min(clauses, key=lambda index: clauses[index]) if clauses else words or len(items)


def _last_cut(items: Sequence[Item]) -> int:
    """The end of a long piece: the last sentence end in its second half, else the last clause end there."""
    half = len(items) // 2
    for strength in (Break.LINE, Break.SENTENCE, Break.CLAUSE):
        for index in range(len(items), half, -1):
            item = items[index - 1]
            if isinstance(item, Pause) and item.strength >= strength:
                return index
    return len(items)


def halve_items(items: Sequence[Item]) -> tuple[list[Item], list[Item]] | None:
    """A piece in two, each with words: cut at its strongest pause near the middle, else at the gap nearest to it.

    A unit alone is cut between its words; None for a single word, and for phonemes that the text gives.
    """
    places = [index for index, item in enumerate(items) if isinstance(item, Unit)]
    if not places:
        return None
    if len(places) == 1:
        at = places[0]
        unit = items[at]
        assert isinstance(unit, Unit)
        spoken = [index for index, word in enumerate(unit.words) if word != INNER_PAUSE]
        if len(spoken) < 2 or unit.sounds:
            return None
        middle = spoken[len(spoken) // 2]
        first, second = replace(unit, words=unit.words[:middle]), replace(unit, words=unit.words[middle:])
        return [*items[:at], first], [second, *items[at + 1 :]]
    middle = len(places) // 2
    near = range(places[middle // 2], places[(middle + len(places)) // 2] + 1)
    pauses = [
        (-item.strength, abs(index - places[middle]), index + 1)
        for index in near
        if isinstance(item := items[index], Pause) and places[0] < index < places[-1]
    ]
    cut = min(pauses)[-1] if pauses else places[middle]
    return list(items[:cut]), list(items[cut:])


def _of_size(items: Iterable[Item], seconds: Seconds, limit_s: float) -> Iterator[Item]:
    """The items, with units above the limit cut: at inner pauses, else between words."""
    for item in items:
        if not isinstance(item, Unit) or seconds(item) <= limit_s or len(item.words) < 2:
            yield item
            continue
        held: list[str] = []
        held_s = 0.0
        for word in item.words:
            word_s = seconds(replace(item, words=(word,)))
            if held and held_s + word_s > limit_s / 2 and (word == INNER_PAUSE or held_s + word_s > limit_s * 0.8):
                yield replace(item, words=tuple(held))
                yield Pause(strength=Break.CLAUSE)
                held, held_s = [], 0.0
            if held or word != INNER_PAUSE:
                held.append(word)
                held_s += word_s
        if held:
            yield replace(item, words=tuple(held))


def sentence_ends(text: str, abbreviations: Collection[str]) -> Iterator[int]:
    """The ends of all sentences but the last, including white space. `abbreviations` are in lower case."""
    for match in _SENTENCE_END.finditer(text):
        last = match["last"] or ""
        is_initial = len(last) == 1 and last.isupper() and last != "I"
        if not is_initial and last.lower() not in abbreviations:
            yield match.end()


def clause_ends(text: str) -> Iterator[int]:
    """The ends of clauses, including white space."""
    return (match.end() for match in _CLAUSE_END.finditer(text))
