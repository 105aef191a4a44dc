"""A language: tables of words, of written forms and of rules, in the files of one folder.

A file holds sections. `[name]` opens a vocabulary of rows `written <TAB> spoken`, or only `written` in a
list; `[name exact]` is case-sensitive.
`[patterns]` holds regular expressions by name, `[rules]` the rows of `rules`. Lines that start with `# ` are comments.
Files are read in the order of their names, and rules are tried in the same order.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.normalisation.codes import code_readers
from unimoe_runtime.frontend.normalisation.money import money_readers
from unimoe_runtime.frontend.normalisation.numbers import Numbers, number_readers
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading, Rule, parse_rule
from unimoe_runtime.frontend.normalisation.times import time_readers
from unimoe_runtime.frontend.normalisation.units import unit_readers
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary
from unimoe_runtime.frontend.normalisation.words import word_readers

LANGUAGES = Path(__file__).parent / "languages"
_SIGNS = ("0", "-", "#", "*")
_NUMBER_SIGNS = "-+.–−"
_SECTION = re.compile(r"\[(\w+)( exact)?\]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """The tables of one language. `triggered`: the rules by the first word or the sign that triggers them."""

    name: str
    numbers: Numbers
    vocabularies: Mapping[str, Vocabulary]
    readers: Mapping[str, Reader]
    triggered: Mapping[str, tuple[Rule, ...]] = field(repr=False)

    @functools.cached_property
    def after_numbers(self) -> frozenset[str]:
        """Lower-case words after a number that may change its reading: units, months and the like."""
        listed = (word for name in _AFTER_NUMBERS for word in self.vocabulary(name).words)
        return frozenset(part.lower() for word in listed for part in re.findall(r"[^\W\d_]+", word))

    def vocabulary(self, name: str) -> Vocabulary:
        """The language's vocabulary of this name; an empty one where there is none."""
        return self.vocabularies.get(name, _NOTHING)

    def compile(self) -> None:
        """Compile every rule's pattern, which its first use would do otherwise."""
        _ = self.after_numbers, [rule.pattern for rules in self.triggered.values() for rule in rules]

    @property
    def short_forms(self) -> tuple[str, ...]:
        """Written forms whose full stop does not end a sentence by itself, such as Dr and approx."""
        return tuple(short for name in _SHORT_FORMS for short in self.vocabulary(name).words)


_NOTHING = Vocabulary(words={})
_AFTER_NUMBERS = (
    "units", "attached_units", "spaced_units", "per_units", "large", "magnitudes", "currency_codes", "named_currencies",
    "months", "eras", "zones", "streets", "directions", "number_neighbours",
    "airliners",
)  # fmt: skip
_SHORT_FORMS = ("titles", "dotted_titles", "abbreviations", "exact_abbreviations", "numbered")


@functools.cache
def open_language(name: str) -> Language:
    """A language that the runtime includes. Raises ConfigError for an unknown name."""
    return read_language(find_language(name))


def find_language(name: str) -> Path:
    """The folder of a language that the runtime includes. Raises ConfigError for an unknown name."""
    folder = LANGUAGES / name
    if not name.isidentifier() or not folder.is_dir():
        known = ", ".join(sorted(path.name for path in LANGUAGES.iterdir() if path.is_dir()))
        raise ConfigError(f"language is {name!r}; it can be {known}")
    return folder


def read_language(folder: Path, *, check: bool = False) -> Language:
    """The language in a folder of tables. `check` compiles every pattern at once.

    Raises ConfigError with file and line for an invalid row.
    """
    vocabularies: dict[str, Vocabulary] = {}
    patterns: dict[str, str] = {}
    rows: list[tuple[str, list[str]]] = []
    for path in sorted(folder.glob("*.tsv")):
        section, exact = "", False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("# "):
                continue
            header = _SECTION.fullmatch(line)
            if header:
                section, exact = header[1], bool(header[2])
                continue
            row = line.split("\t")
            if len(row) == 1:
                row *= 2
            where = f"{path}:{number}"
            if len(row) != (4 if section == "rules" else 2):
                raise ConfigError(f"{where}: has {len(row)} columns; rules have 4, every other section has 2")
            if section == "rules":
                rows.append((where, row))
            elif section == "patterns":
                patterns[row[0]] = row[1]
            else:
                vocabularies.setdefault(section, Vocabulary(words={}, exact=exact)).words[row[0]] = row[1]
    patterns |= {name: words.pattern for name, words in vocabularies.items()}
    numbers = Numbers(
        cardinals=vocabularies["cardinals"].words,
        ordinals=vocabularies["ordinals"].words,
        denominators=vocabularies.get("denominators", _NOTHING).words,
        terms=vocabularies["terms"].words,
        decimal_sign=vocabularies["terms"].words.get("decimal_sign", "."),
    )
    readers: dict[str, Reader] = {name: _look_up(words) for name, words in vocabularies.items()}
    readers |= number_readers(numbers)
    for family in (money_readers, unit_readers, time_readers, code_readers, word_readers):
        readers |= family(numbers, vocabularies)
    return Language(
        name=folder.name,
        numbers=numbers,
        vocabularies=vocabularies,
        readers=readers,
        triggered=_by_trigger(_rules(rows, patterns, readers, check=check), vocabularies),
    )


def _look_up(words: Vocabulary) -> Reader:
    """Reads an entry. An entry with a plural, `mile|miles`, agrees with the number before it."""

    def read(text: str, reading: Reading) -> list[str] | None:
        one, _, several = (words.find(text) or "").partition("|")
        return (one if reading.count == "1" or not several else several).split()

    return read


def _rules(
    rows: list[tuple[str, list[str]]], patterns: Mapping[str, str], readers: Mapping[str, Reader], *, check: bool
) -> list[Rule]:
    rules: list[Rule] = []
    for where, row in rows:
        try:
            rule = parse_rule(row, patterns)
            if check:
                re.compile(rule.expression)
        except (KeyError, re.error) as error:
            raise ConfigError(f"{where}: the pattern cannot be used ({error})") from None
        missing = [part.reader for part in rule.fields if part.reader not in readers]
        missing += [part.group for part in rule.fields if part.group not in rule.groups]
        if missing:
            raise ConfigError(f"{where}: there is no reader or group {missing[0]!r}")
        rules.append(rule)
    return rules


def _by_trigger(rules: list[Rule], vocabularies: Mapping[str, Vocabulary]) -> dict[str, tuple[Rule, ...]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        for trigger in rule.triggers:
            starts = [trigger] if trigger in _SIGNS else [_first_word(key) for key in vocabularies[trigger].words]
            for start in dict.fromkeys(starts):
                found.setdefault(start, []).append(rule)
    return {start: tuple(tried) for start, tried in found.items()}


def trigger_of(sign: str) -> str:
    """The trigger of a sign that is not a letter."""
    return "0" if sign.isdecimal() else "-" if sign in _NUMBER_SIGNS or sign.isnumeric() else "#"


def _first_word(written: str) -> str:
    match = re.match(r"[^\W\d_]+", written)
    return match[0].lower() if match else trigger_of(written[0])
