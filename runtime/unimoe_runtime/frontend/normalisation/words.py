"""Words: capitals read as words, capitals that are spelled, contractions, names in mixed case."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unimoe_runtime.frontend.normalisation.numbers import Numbers
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary

_SHORTEST_PART = 4
_NOTHING = Vocabulary(words={})
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]")
# Plurals of letters; "As", "Is" and "Us" are words.
_PLURAL = re.compile(r"(?P<capitals>[A-Z]{2,}|[A-Z](?=')|[B-HJ-NP-TV-Z])(?P<ending>'?s)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spelling:
    """The spoken form of a run of ASCII letters, by a language's vocabularies.

    `acronyms`: capitals with their spoken form, such as NASA: nasa. `initialisms`: capitals that are spelled although
    they also form a word. `onsets` and `codas`: consonants that a word can start and end with.
    """

    vocabularies: Mapping[str, Vocabulary]

    def _list(self, name: str) -> Vocabulary:
        return self.vocabularies.get(name, _NOTHING)

    def spell(self, letters: str) -> list[str]:
        """The letters' names: single capital letters."""
        return list(letters.upper())

    def word(self, written: str, known: Callable[[str], bool], *, shouted: bool = False) -> list[str]:
        """The words of a run of letters with apostrophes. `shouted`: neighbouring words are in capitals too."""
        if shouted and written in self._list("shouted_words"):
            return [written.lower()]
        acronym = self._list("acronyms").find(written)
        if acronym is not None:
            return acronym.split()
        plural = _PLURAL.fullmatch(written)
        if plural and (written not in self._list("shouted_words") or not shouted):
            return self._plural(plural, known)
        if len(written) > 1 and written.isupper():
            return self._capitals(written, known, shouted=shouted)
        if not written.islower() and not written.istitle():
            return self._mixed(written, known)
        return [written.lower()]

    def name(self, run: str, known: Callable[[str], bool], *, ends: bool = False) -> list[str]:
        """A run of letters in an address or a code: read as a word where it is or could be one, else spelled.

        `ends`: it follows a full stop, like a domain or a file's suffix.
        """
        lower = run.lower()
        listed = self._list("ending_words").find(run) if ends else None
        listed = listed or self._list("address_words").find(run)
        if listed is not None and (ends or not run.isupper()):
            return listed.split()
        parts = () if run.isupper() or known(lower) else self._parts(run, known)
        if parts:
            return [word for part in parts for word in self.name(part, known)]
        if run.isupper() or not (known(lower) or self.can_be_said(lower, 3)):
            return self.word(run, known) if run.isupper() and len(run) > 3 else self.spell(run)
        if len(run) == 1:
            return self.spell(run)
        return self.word(run, known)

    def _parts(self, run: str, known: Callable[[str], bool]) -> Sequence[str]:
        """The words of a name without spaces, such as ThrowbackThursday or throwbackthursday; empty where it is one."""
        parts = _PART.findall(run)
        if len(parts) > 1:
            return parts if all(len(part) > 2 or known(part.lower()) for part in parts) else ()
        cuts = range(len(run) - _SHORTEST_PART, _SHORTEST_PART - 1, -1)
        found = ((run[:cut], run[cut:]) for cut in cuts if known(run[:cut].lower()) and known(run[cut:].lower()))
        return next(found, ()) if len(run) >= 2 * _SHORTEST_PART else ()

    def can_be_said(self, word: str, shortest: int = 4) -> bool:
        """Whether lower-case letters look like a word: vowels between consonants that words can have there."""
        parts = re.fullmatch(r"([^aeiouy]*)([aeiouy].*?)([^aeiouy]*)", word)
        if len(word) < shortest or parts is None:
            return False
        onset_fits = not parts[1] or parts[1] in self._list("onsets")
        coda_fits = not parts[3] or parts[3] in self._list("codas")
        return onset_fits and coda_fits and not re.search(r"[^aeiouy]{4}|[aeiouy]{4}|q(?!u)", word)

    def _capitals(self, written: str, known: Callable[[str], bool], *, shouted: bool) -> list[str]:
        lower, bare = written.lower(), written.replace("'", "")
        if bare in self._list("initialisms") and not (shouted and bare in self._list("shouted_words")):
            return self.spell(bare)
        if "'" in written or (known(lower) and (len(bare) > 2 or shouted or lower in self._list("short_words"))):
            return [lower]
        return [lower] if self.can_be_said(bare.lower()) else self.spell(bare)

    def _plural(self, match: re.Match[str], known: Callable[[str], bool]) -> list[str]:
        words = self.word(match["capitals"], known) if len(match["capitals"]) > 1 else [match["capitals"]]
        return [*words[:-1], f"{words[-1]}'s" if len(words[-1]) == 1 else f"{words[-1]}{match['ending']}"]

    def _mixed(self, written: str, known: Callable[[str], bool]) -> list[str]:
        base, apostrophe, ending = written.rpartition("'")
        if apostrophe and base and ending.islower():
            if base == "I":
                return [written.lower()]
            *start, last = self.word(base, known) if len(base) > 1 else [base]
            return [*start, f"{last}'{ending}"]
        if known(written.lower()) or "'" in written or re.match("Ma?c[A-Z]", written):
            return [written.lower()]
        words: list[str] = []
        for part in _PART.findall(written):
            words += self.word(part, known) if len(part) > 1 else self.spell(part)
        return words


def word_readers(numbers: Numbers, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Reader]:
    """`words` reads plain words; `letter` a single letter by its name; `silent` nothing."""
    spelling = Spelling(vocabularies=vocabularies)

    def words(text: str, reading: Reading) -> list[str]:
        found: list[str] = []
        for word in re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)*", text):
            found += spelling.word(word, reading.known) if len(word) > 1 else [word.lower()]
        return found

    titles, streets = vocabularies.get("dotted_titles", _NOTHING), vocabularies.get("streets", _NOTHING)
    starters = vocabularies.get("sentence_starters", _NOTHING)

    def follows_name(reading: Reading) -> bool:
        return reading.before[:1].isupper() and reading.before not in starters

    def street_behind_name(text: str, reading: Reading) -> list[str] | None:
        """`St` and the like, read as a street after a name."""
        return (streets.find(text) or "").split() if follows_name(reading) else None

    def street_strict(text: str, reading: Reading) -> list[str] | None:
        """The same before a capital, but not after the first word of a sentence, which is not a name."""
        return None if reading.starts else street_behind_name(text, reading)

    def title_or_street(text: str, reading: Reading) -> list[str]:
        found = streets.find(text) if follows_name(reading) else titles.find(text)
        return (found or "").split()

    def street_name(text: str, reading: Reading) -> list[str]:
        """Words, and ordinals such as 1st."""
        found: list[str] = []
        for word in text.split():
            digits = re.match(r"\d+", word)
            found += numbers.ordinal(int(digits[0])) if digits else [word.lower()]
        return found

    def spelled(text: str, reading: Reading) -> list[str]:
        return spelling.spell("".join(letter for letter in text if letter.isalpha()))

    names = ("attributive", "attributive_singular", "attributive_verbs", "indefinite")
    determiners, singular, verbs, indefinite = (vocabularies.get(name, _NOTHING) for name in names)

    def attributive(text: str, reading: Reading) -> list[str] | None:
        """No words. It rejects a value that is no attribute of the noun after it: `that $5 buys`, `costs $5 there`."""
        before = reading.before.lower()
        is_verb = before in singular and text.islower() and text.endswith("s") and not text.endswith("ss")
        is_verb = is_verb or (text in verbs and before not in indefinite)
        return [] if before in determiners and not is_verb else None

    labels = vocabularies.get("labels", _NOTHING)

    def unlabelled(text: str, reading: Reading) -> list[str] | None:
        """No words. It rejects a unit whose number follows a word such as `seat`."""
        return None if reading.before.lower() in labels else []

    return {
        "attributive": attributive,
        "unlabelled": unlabelled,
        "words": words,
        "letter": lambda text, _: list(text.upper()),
        "spelled": spelled,
        "silent": lambda text, _: [],
        "street_behind_name": street_behind_name,
        "street_strict": street_strict,
        "title_or_street": title_or_street,
        "street_name": street_name,
    }
