"""SSML and marks in double brackets: `<break time="500ms"/>`, `[[pause 500ms]]`, `[name](/K AE1 T/)`, `[[K AE1 T]]`.

Known tags without effect on speech are skipped. Unknown tags are skipped with a warning.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.markup.values import parse_rate, parse_seconds, read_attributes
from unimoe_runtime.frontend.normalisation import Break, Pause

_TAG = re.compile(
    r"""<!--.*?-->|<\?[^<>]{0,500}\?>|<!\[CDATA\[|\]\]>|<!DOCTYPE[^<>]{0,300}>
    |<(?P<close>/?)(?P<name>[A-Za-z][\w:-]{0,40})(?P<attributes>(?:\s+[\w:-]{1,40}(?:\s*=\s*(?:"[^"<>]{0,500}"|'[^'<>]{0,500}'))?){0,20})\s*(?P<empty>/?)>
    |</[A-Za-z][\w:-]{0,40}\s*\Z
    |\[\[\s*(?P<mark>[^\[\]\n]{1,300}?)\s*\]\]
    |(?<!\[)\[(?P<label>[^\[\]\n]{1,100})\]\(/(?P<sounds>[^()\n]{1,200})/\)""",
    re.VERBOSE | re.DOTALL,
)
_PATH = re.compile(r"[a-z0-9_.-]+(?:/[\w.-]+)*")
_SILENT_TAGS = frozenset(
    """speak emphasis voice lang w token audio desc mark metadata meta lexicon lookup
    b i em strong u s_ small big span div a code pre kbd q cite abbr del ins sup sub_ html body head title ul ol li
    table tr td th tbody thead h1 h2 h3 h4 h5 h6 blockquote font center mark img link section article header footer
    details summary figure figcaption main nav label button input form""".split()
)
_LINE_TAGS = frozenset("br hr li tr h1 h2 h3 h4 h5 h6 div blockquote ul ol table title".split())
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.2}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stretch of text with the same settings. `reader`: as `say-as` asks. `sounds`: phonemes as they are written.

    `alphabet` of the sounds: "ipa", "arpabet", or empty where they show it themselves.
    """

    text: str
    rate: float = 1.0
    reader: str = ""
    sounds: str = ""
    alphabet: str = ""


@dataclass(kw_only=True)
class MarkupReader:
    """Splits a text at its tags. One reader processes all of a text: a tag may open in one block and end in another.

    `warn` receives each unknown tag once.
    """

    warn: Callable[[str], None]
    _open: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set)

    def read(self, text: str) -> Iterator[Run | Pause]:
        """Runs and pauses of a block of text. Raises PromptError for a tag with invalid values."""
        at = 0
        if "<" in text or "[[" in text or "](/" in text:
            for tag in _TAG.finditer(text):
                if tag["sounds"] and _PATH.fullmatch(tag["sounds"]) and "/" in tag["sounds"]:
                    continue
                yield from self._text(text[at : tag.start()])
                at = tag.end()
                yield from self._tag(tag)
        yield from self._text(text[at:])

    @property
    def _rate(self) -> float:
        rate = 1.0
        for name, attributes in self._open:
            if name == "prosody" and "rate" in attributes:
                rate *= parse_rate(attributes["rate"])
        return rate

    def _text(self, text: str) -> Iterator[Run]:
        if not text:
            return
        if "&" in text:
            text = html.unescape(text)
        name, attributes = self._open[-1] if self._open else ("", {})
        if name == "phoneme":
            yield Run(text=text, rate=self._rate, sounds=attributes["ph"], alphabet=attributes["alphabet"])
        elif name == "say-as":
            yield Run(text=text, rate=self._rate, reader=attributes["interpret-as"])
        elif name != "sub":
            yield Run(text=text, rate=self._rate)

    def _tag(self, tag: re.Match[str]) -> Iterator[Run | Pause]:
        if tag["mark"]:
            yield from self._mark(tag["mark"])
        elif tag["sounds"]:
            yield Run(text=tag["label"], rate=self._rate, sounds=tag["sounds"])
        elif tag["name"]:
            yield from self._element(tag)

    def _mark(self, mark: str) -> Iterator[Run | Pause]:
        word, _, rest = mark.partition(" ")
        if word.lower() in ("pause", "break"):
            yield Pause(strength=Break.CLAUSE, seconds=parse_seconds(rest.strip(), f"[[{mark}]]"))
        else:
            yield Run(text=mark, rate=self._rate, sounds=mark)

    def _element(self, tag: re.Match[str]) -> Iterator[Run | Pause]:
        name = tag["name"].lower()
        name = {"ph": "phoneme", "say_as": "say-as"}.get(name, name)
        if tag["close"]:
            yield from self._close(name)
            return
        attributes = read_attributes(tag["attributes"])
        if name == "break":
            yield self._break(attributes, tag[0])
        elif name in ("p", "s"):
            yield Pause(strength=Break.PARAGRAPH if name == "p" else Break.SENTENCE)
            if not tag["empty"]:
                self._open.append((name, {}))
        elif name in ("phoneme", "say-as", "prosody", "sub"):
            yield from self._spoken(name, attributes, empty=bool(tag["empty"]), written=tag[0])
        else:
            if name in _LINE_TAGS:
                yield Pause(strength=Break.LINE)
            elif name not in _SILENT_TAGS and name not in self._warned:
                self._warned.add(name)
                self.warn(f"<{name}> is an unknown tag and is skipped")

    def _close(self, name: str) -> Iterator[Pause]:
        if name in ("p", "s"):
            yield Pause(strength=Break.PARAGRAPH if name == "p" else Break.SENTENCE)
        elif name in _LINE_TAGS:
            yield Pause(strength=Break.LINE)
        for index in reversed(range(len(self._open))):
            if self._open[index][0] == name:
                del self._open[index]
                break

    def _break(self, attributes: dict[str, str], written: str) -> Pause:
        if "time" in attributes:
            return Pause(strength=Break.CLAUSE, seconds=parse_seconds(attributes["time"], written))
        strength = attributes.get("strength", "medium")
        if strength not in _STRENGTHS:
            raise PromptError(f"{written}: strength is {strength!r}; it can be {', '.join(_STRENGTHS)}")
        return Pause(strength=Break.CLAUSE, seconds=_STRENGTHS[strength])

    def _spoken(self, name: str, attributes: dict[str, str], *, empty: bool, written: str) -> Iterator[Run]:
        """A tag that changes how its content is spoken."""
        if name == "sub":
            if "alias" not in attributes:
                raise PromptError(f'{written}: has no alias: write <sub alias="what to say">')
            yield Run(text=f" {html.unescape(attributes['alias'])} ", rate=self._rate)
        if name == "phoneme":
            if not attributes.get("ph"):
                raise PromptError(f'{written}: has no ph: write <phoneme alphabet="ipa" ph="kæt">')
            attributes = {"ph": html.unescape(attributes["ph"]), "alphabet": attributes.get("alphabet", "").lower()}
            if empty:
                yield Run(
                    text=attributes["ph"], rate=self._rate, sounds=attributes["ph"], alphabet=attributes["alphabet"]
                )
        if name == "say-as" and "interpret-as" not in attributes:
            raise PromptError(f'{written}: has no interpret-as: write <say-as interpret-as="characters">')
        if name == "prosody" and "rate" in attributes:
            parse_rate(attributes["rate"])
        if not empty:
            self._open.append((name, attributes))
