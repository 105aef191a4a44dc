"""Rules: how a written form is recognised and spoken. Rules are rows of a table, not code.

    name <TAB> trigger <TAB> pattern <TAB> say

`trigger` limits where a rule is tried: `0` at a digit, `-` at a sign, point or fraction that can start a number,
`#` at any other sign, `*` at a run of letters that is not a plain word, else the name of a vocabulary whose entries
start the pattern. A rule can have several triggers, side by side.
`pattern` is a regular expression. «name» in it is a pattern or any entry of a vocabulary; «group:name» also names it.
`say` is the spoken form. {group:reader} is a group of the pattern, read by a reader or looked up in a vocabulary; a
part in [brackets] is left out where one of its groups is empty; `foot|feet` agrees with the number before it. If a
reader rejects a match, the next rule is tried.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_GROUP = re.compile(r"\(\?P<(\w+)>")
_MACRO = re.compile(r"«(?:(\w+):)?(\w+)»")
_PART = re.compile(r"\{(?P<group>\w+)(?::(?P<reader>\w+))?\}|\[(?P<optional>[^\]]*)\]|(?P<literal>[^\s{}\[\]]+)")


@dataclass(frozen=True, kw_only=True)
class Field:
    """A group of the pattern and the name of its reader or vocabulary."""

    group: str
    reader: str


@dataclass(frozen=True, kw_only=True)
class OptionalParts:
    """Parts that are left out where one of their groups is empty."""

    parts: tuple[Field | str, ...]


Part = Field | OptionalParts | str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row of the table. `triggers` are the vocabularies, or one of the signs above."""

    name: str
    triggers: tuple[str, ...]
    expression: str
    say: tuple[Part, ...]

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """The expression, compiled at its first use: compiling all of a language takes longer than a short text."""
        return re.compile(self.expression)

    @property
    def groups(self) -> set[str]:
        """Names of the expression's groups."""
        return set(_GROUP.findall(self.expression))

    @property
    def fields(self) -> list[Field]:
        """Every field of `say`, including those of optional parts."""
        flat = [inner for part in self.say for inner in (part.parts if isinstance(part, OptionalParts) else (part,))]
        return [part for part in flat if isinstance(part, Field)]


@dataclass(kw_only=True)
class Reading:
    """The state that the readers of one match share. `count`: the last number; units and currencies agree with it.

    `known` says whether a lower-case word is in the lexicon; `before` is the word before the match,
    which `starts` a sentence or stands within one; `quoted`: a quotation is open.
    """

    known: Callable[[str], bool]
    before: str = ""
    starts: bool = True
    quoted: bool = False
    count: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


Reader = Callable[[str, Reading], list[str] | None]
"""Words of a text, or None where the rule does not apply."""


def parse_rule(row: Sequence[str], patterns: Mapping[str, str]) -> Rule:
    """A rule from its row. Raises KeyError for an unknown pattern."""
    name, triggers, pattern, say = row
    return Rule(
        name=name,
        triggers=tuple(triggers.split()),
        expression=expand(pattern, patterns),
        say=_parse_say(say),
    )


def expand(pattern: str, patterns: Mapping[str, str]) -> str:
    """A pattern with all named patterns expanded."""

    def replace(macro: re.Match[str]) -> str:
        group, name = macro[1], macro[2]
        inner = expand(patterns[name], patterns)
        return f"(?P<{group}>{inner})" if group else f"(?:{inner})"

    return _MACRO.sub(replace, pattern)


def _parse_say(say: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for match in _PART.finditer(say):
        if match["group"]:
            parts.append(Field(group=match["group"], reader=match["reader"] or "words"))
        elif match["optional"] is not None:
            inner = _parse_say(match["optional"])
            parts.append(OptionalParts(parts=tuple(part for part in inner if not isinstance(part, OptionalParts))))
        else:
            parts.append(match["literal"])
    return tuple(parts)


def render(rule: Rule, match: re.Match[str], readers: Mapping[str, Reader], reading: Reading) -> list[str] | None:
    """The words of a match; None where a reader rejects it."""
    reading.groups = {name: text or "" for name, text in match.groupdict().items()}
    words: list[str] = []
    for part in rule.say:
        inner = part.parts if isinstance(part, OptionalParts) else (part,)
        if isinstance(part, OptionalParts) and not all(
            reading.groups[one.group] for one in inner if isinstance(one, Field)
        ):
            continue
        for one in inner:
            said = _say(one, readers, reading)
            if said is None:
                return None
            words += said
    return words


def _say(part: Field | str, readers: Mapping[str, Reader], reading: Reading) -> list[str] | None:
    if isinstance(part, str):
        one, bar, several = part.partition("|")
        return [several if bar and reading.count != "1" else one]
    return readers[part.reader](reading.groups[part.group], reading)
