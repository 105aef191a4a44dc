"""From a text with its marks to items: units of words, and pauses. It reads lazily."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.markup import MarkupReader, Run, remove_markdown
from unimoe_runtime.frontend.markup.values import LONGEST_PAUSE_S
from unimoe_runtime.frontend.normalisation import (
    STRONGEST_FIRST,
    Break,
    Dropped,
    Item,
    Normaliser,
    Pause,
    Unit,
    open_language,
)
from unimoe_runtime.frontend.utterance import phrases_of
from unimoe_runtime.records import shown

_BLOCK = 2000
_BLOCK_END = re.compile(r"\n+|(?<=[a-z]{4}[.!?])\s+(?=[A-Z])")
_SAY_AS: Mapping[str, str] = {
    "characters": "spell", "character": "spell", "spell-out": "spell", "spell": "spell", "verbatim": "spell",
    "letters": "spell", "digits": "digits", "digit": "digits", "cardinal": "number", "number": "number",
    "ordinal": "ordinal", "fraction": "fraction", "telephone": "phone", "phone": "phone", "year": "year",
    "address": "", "date": "", "time": "", "currency": "", "money": "", "unit": "", "measure": "", "name": "",
    "text": "", "words": "",
}  # fmt: skip
"""Readers for `interpret-as`; empty for the default reading."""


@dataclass(kw_only=True)
class Notes:
    """Notes to the caller about its text: dropped parts, and unknown marks."""

    dropped: Dropped = field(default_factory=Dropped)
    marks: list[str] = field(default_factory=list)

    def add_mark(self, line: str) -> None:
        """Note an unknown mark, once."""
        if line not in self.marks:
            self.marks.append(line)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each."""
        return (*self.marks, *([self.dropped.warning] if self.dropped.warning else []))


@dataclass(frozen=True, kw_only=True, eq=False)
class TextReader:
    """Reads texts with Markdown, SSML and marks in brackets.

    `phonemes` converts a text's phonemes into the voice's own; it raises PromptError for an invalid one.
    """

    normaliser: Normaliser
    phonemes: Callable[[str, str], tuple[str, ...]]

    def read(self, text: str, notes: Notes | None = None) -> Iterator[Item]:
        """The items of a text. Consecutive pauses merge into the strongest.

        A text that ends with a bracket, a quote or a dash ends a sentence there.
        """
        notes = notes if notes is not None else Notes()
        waiting: Pause | None = None
        for item in self._items(text, notes):
            if isinstance(item, Pause):
                waiting = item if waiting is None else _longer(waiting, item)
                continue
            if waiting is not None:
                yield waiting
                waiting = None
            yield item
        if waiting is not None:
            strength = waiting.strength if waiting.mark else max(waiting.strength, Break.SENTENCE)
            yield replace(waiting, strength=strength)

    def _items(self, text: str, notes: Notes) -> Iterator[Item]:
        reader = MarkupReader(warn=notes.add_mark)
        for block in blocks(text):
            for run in reader.read(remove_markdown(block)):
                if isinstance(run, Pause):
                    yield run
                elif run.sounds:
                    yield self._sounds(run)
                else:
                    for item in self._run(run, notes):
                        yield replace(item, rate=run.rate) if isinstance(item, Unit) and run.rate != 1 else item

    def _sounds(self, run: Run) -> Unit:
        sounds = self.phonemes(run.sounds, run.alphabet)
        words = tuple(re.findall(r"[a-z']+", run.text.lower())) if run.text != run.sounds else ()
        return Unit(words=words or (run.sounds,), written=run.text, sounds=sounds, rate=run.rate)

    def _run(self, run: Run, notes: Notes) -> Iterator[Item]:
        if not run.reader:
            yield from self.normaliser.read(run.text, notes.dropped)
            return
        name = run.reader.lower()
        if name == "expletive":
            yield Pause(strength=Break.CLAUSE, seconds=0.5)
            return
        if name not in _SAY_AS:
            notes.add_mark(f"interpret-as {name!r} is unknown; the text is read as usual")
        words = self.normaliser.read_value(run.text, _SAY_AS[name]) if _SAY_AS.get(name) else ()
        if words:
            yield Unit(words=words, written=run.text)
        else:
            yield from self.normaliser.read(run.text, notes.dropped)


def _longer(first: Pause, second: Pause) -> Pause:
    """Both pauses merged: lengths from the text add up, to LONGEST_PAUSE_S at most; else the stronger one stays."""
    strength = max(first.strength, second.strength)
    mark = next((mark for mark in STRONGEST_FIRST if mark in (first.mark, second.mark)), "")
    if first.seconds is not None and second.seconds is not None:
        return Pause(strength=strength, mark=mark, seconds=min(first.seconds + second.seconds, LONGEST_PAUSE_S))
    given = first.seconds if first.seconds is not None else second.seconds
    return Pause(strength=strength, mark=mark, seconds=given)


def blocks(text: str) -> Iterator[str]:
    """The text in blocks that end at a line end, or at a sentence end where lines are long."""
    start, end = 0, len(text)
    while start < end:
        if end - start <= _BLOCK:
            yield text[start:]
            return
        match = _BLOCK_END.search(text, start + _BLOCK, start + 20 * _BLOCK)
        if match is None:
            space = text.rfind(" ", start + _BLOCK, start + 20 * _BLOCK)
            stop = space + 1 if space > 0 else min(end, start + 20 * _BLOCK)
        else:
            stop = match.end()
        yield text[start:stop]
        start = stop


def read_phrases(text: str, language: str = "en") -> list[list[str]]:
    """The words of a plain text by phrase; a voice pauses between phrases. A capital letter is a letter's name."""
    return phrases_of(list(Normaliser(language=open_language(language)).read(text)))


def nothing_to_say(text: str) -> PromptError:
    """The error for a text without anything to speak."""
    return PromptError(f"there is nothing to say in {shown(text.strip())}: give words in Latin letters, or numbers")
