"""From written text to units and pauses: one pass over the text, in time proportional to its length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from unimoe_runtime.frontend.normalisation.folding import fold
from unimoe_runtime.frontend.normalisation.language import Language, trigger_of
from unimoe_runtime.frontend.normalisation.rules import Reading, Rule, render
from unimoe_runtime.frontend.normalisation.spoken import STRONGEST_FIRST, Break, Dropped, Item, Pause, Unit
from unimoe_runtime.frontend.normalisation.words import Spelling

_L = r"[^\W\d_²³¹⁰ⁱ-₎¼-¾⅐-↉①-⓿]"  # a letter: \w also matches signs such as ² and ½
_LETTERS = re.compile(rf"{_L}+")
_WORD = re.compile(rf"{_L}+(?:'{_L}+)*")
_PLAIN_END = re.compile(r"""\s|\Z|[,;!?)\]}"…—–|]|[.:'][\s'")\]]|[.:']\Z|-(?=[^\W\d_]{2,}(?:[\s,;.!?)]|\Z))""")
_SPACE = re.compile(r"\s+")
_PAUSES = re.compile(r"""[,;:.!?…()"\[\]{}|•‣▪◦—]+|[-–]{2,}|(?:(?<=\s)|(?<=^))[-–](?=\s)""")
_ONLY_PAUSES = frozenset(",;:?)[]{}|…")
_FACES = (":)", ":-)", ";)", ":(")
_SENTENCE = re.compile(r"[.!?…]")
_DASH = re.compile(r"[-–—]\s?(?=[~+]?[$€£¥₹]?['’]?\d)")
_NEXT_WORD = re.compile(r"[^\S\n]*[\s-]([^\W\d_]+)")
_INITIAL = re.compile(r"\.(?=\s?[A-Z]|\s[a-z])")
_OPERATOR = re.compile(r"\s?[=+×÷*/^<>≤≥≠²³]")
_COUNT = re.compile(r"(?:(?<=\s)|(?<=^))(?P<count>[1-9]\d{0,2}) (?P<word>[a-z]{3,})(?=[\s,;!?]|\.?\s|\.?\Z)")
_LONGEST_WORD = 40
_LONG_PART = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Normaliser:
    """Reads text in one language.

    `known` says whether a lower-case word is in the lexicon; capitals that form a known word are read as a word.
    `abbreviations` are a bundle's own, in addition to the language's. `own`: lower-case words that stay unchanged,
    because the caller gives their phonemes.
    """

    language: Language
    known: Callable[[str], bool] = lambda word: False
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    own: Collection[str] = ()

    def read(self, text: str, dropped: Dropped | None = None) -> Iterator[Item]:
        """Units and pauses of a text, in order, produced lazily. `dropped` collects the parts without a reading."""
        scan = _Scan(normaliser=self, dropped=dropped if dropped is not None else Dropped())
        lines = _joined(self._folded(text), self.language).split("\n")
        for number, line in enumerate(lines):
            if number:
                is_gap = not line.strip() and number + 1 < len(lines)
                yield Pause(strength=Break.PARAGRAPH if is_gap else Break.LINE)
            yield from _merged(scan.line(line))

    def _folded(self, text: str) -> str:
        return fold(text, self.language.vocabulary("folded").words)

    def read_value(self, text: str, reader: str) -> tuple[str, ...]:
        """Words of a text by one reader, for `say-as`; empty where the text is not of its kind."""
        try:
            return tuple(self.language.readers[reader](self._folded(text).strip(), Reading(known=self.known)) or ())
        except (ValueError, TypeError, KeyError, IndexError):
            return ()


def _mark(written: str) -> str:
    """The mark that stands for some punctuation: the strongest one in it; none for brackets, quotes and dashes."""
    return next((mark for mark in STRONGEST_FIRST if mark in written.replace("…", ".")), "")


def _joined(text: str, language: Language) -> str:
    """The text without line ends inside a value, such as between 5 and million."""
    if "\n" not in text:
        return text
    large = language.vocabulary("large").pattern or "(?!)"
    return re.sub(rf"(?<=\d)[^\S\n]*\n[^\S\n]*(?=(?:{large}|[ap]\.?m\b|%))", " ", text)


def _merged(items: Iterable[Item]) -> Iterator[Item]:
    """The items, with joined ones merged, such as 5pm, to and 7pm."""
    held: Unit | None = None
    for item in items:
        if held is not None and isinstance(item, Unit) and (item.joined or held.joined):
            written = f"{held.written}{item.written}"
            held = replace(held, words=held.words + item.words, written=written, joined=item.joined)
            continue
        if held is not None:
            yield held
        held = item if isinstance(item, Unit) else None
        if held is None:
            yield item
    if held is not None:
        yield held


@dataclass(kw_only=True)
class _Scan:
    """The state of one pass: the previous word, and whether a value was just read."""

    normaliser: Normaliser
    dropped: Dropped
    before: str = ""
    starts: bool = True
    quoted: bool = False
    after_value: bool = False
    between: bool = False

    def __post_init__(self) -> None:
        self._language = self.normaliser.language
        self._triggered = self._language.triggered
        self._spelling = Spelling(vocabularies=self._language.vocabularies)
        self._signs = self._language.vocabulary("signs")
        own = self.normaliser.abbreviations.items()
        self._abbreviations = {short.lower(): full for short, full in own if short.isalpha()}

    def line(self, text: str) -> Iterator[Item]:
        """Units and pauses of one line."""
        at, end = 0, len(text)
        self.before, self.quoted = "", False
        while at < end:
            space = _SPACE.match(text, at)
            if space:
                at = space.end()
                continue
            if _LETTERS.match(text, at):
                at, items = self._letters(text, at)
            else:
                at, items = self._other(text, at)
            yield from items

    def _letters(self, text: str, at: int) -> tuple[int, list[Item]]:
        """Continue at a letter: by a rule that its word triggers, else as a word."""
        run = _LETTERS.match(text, at)
        word = _WORD.match(text, at)
        assert run is not None and word is not None
        if self.normaliser.own and word[0].lower() in self.normaliser.own:
            self.before, self.after_value = word[0], False
            return word.end(), [Unit(words=(word[0].lower(),), written=word[0])]
        found = self._rules(self._triggered.get(run[0].lower(), ()), text, at)
        if found is None and not _PLAIN_END.match(text, word.end()):
            found = self._rules(self._triggered.get("*", ()), text, at)
        if found is not None:
            return found
        return self._word(text, word)

    def _rules(self, rules: tuple[Rule, ...], text: str, at: int) -> tuple[int, list[Item]] | None:
        for rule in rules:
            match = rule.pattern.match(text, at)
            if match is None or match.end() == at:
                continue
            reading = Reading(known=self.normaliser.known, before=self.before, starts=self.starts, quoted=self.quoted)
            words = render(rule, match, self._language.readers, reading)
            if words is None or not all(map(str.isascii, words)):
                continue
            end, terms = match.end(), self._language.numbers.terms
            self.between = self.before.lower() == terms.get("between")
            if self.between and words.count(terms["to"]) == 1:
                words[words.index(terms["to"])] = terms["and"]
            if words and text.startswith("'s", end) and not _LETTERS.match(text, end + 2) and text[end - 1].isalnum():
                words[-1], end = f"{words[-1]}'s", end + 2
            self.after_value = True
            self.starts = not self.before
            last = _WORD.findall(match[0])
            self.before = last[-1] if last else "0"
            return end, [Unit(words=tuple(words), written=match[0])] if words else []
        return None

    def _word(self, text: str, word: re.Match[str]) -> tuple[int, list[Item]]:
        written, at = word[0], word.end()
        self.after_value = False
        before, self.before = self.before, written
        self.starts = not before
        if not written.isascii():
            return self._foreign(text, word)
        if len(written) == 1:
            return self._letter(text, written, at, before)
        if len(written) > _LONGEST_WORD:
            parts = [written[start : start + _LONG_PART].lower() for start in range(0, len(written), _LONG_PART)]
            return at, [Unit(words=(part.strip("'") or part,), written=part) for part in parts if part.strip("'")]
        base, apostrophe, ending = written.lower().partition("'")
        if base in self._abbreviations:
            if text[at : at + 1] == ".":
                at += 1
            return at, [Unit(words=(*f"{self._abbreviations[base]}{apostrophe}{ending}".split(),), written=written)]
        if self._is_name(text, written, at, before):
            return at, [Unit(words=(written,), written=written)]
        numeral = None if self.normaliser.known(base) else self._language.numbers.long_roman(written)
        words = numeral or self._spelling.word(written, self.normaliser.known, shouted=self._shouted(text, at, before))
        return at, [Unit(words=tuple(words), written=written)]

    def _is_name(self, text: str, written: str, at: int, before: str) -> bool:
        """Whether a capital makes this word another one: a Polish film, from Nice, but not `Polish the table`."""
        vocabulary = self._language.vocabulary
        is_place = written in vocabulary("place_sounds").words
        if not is_place and written not in vocabulary("name_sounds").words:
            return False
        following = _NEXT_WORD.match(text, at)
        after = following[1] if following else ""
        if is_place:
            return before in vocabulary("place_prepositions") and not after[:1].isupper()
        if not before:
            return after not in vocabulary("after_verb")
        return before[0].islower() or before.lower() not in vocabulary("before_verb")

    def _shouted(self, text: str, at: int, before: str) -> bool:
        """Whether a neighbour of this word is also a known word in capitals."""
        following = _NEXT_WORD.match(text, at)
        beside = (before, following[1] if following else "")
        initialisms = self._language.vocabulary("initialisms")
        return any(len(word) > 1 and word.isupper() and word not in initialisms for word in beside)

    def _letter(self, text: str, letter: str, at: int, before: str) -> tuple[int, list[Item]]:
        """A single letter: its name, or the article."""
        following = _NEXT_WORD.match(text, at)
        after = following[1] if following else ""
        named = before.lower() in self._language.vocabulary("letters_before")
        spoken = letter.upper()
        if letter in "Ii" and not named:
            spoken = "i"
        elif letter == "a" and not named and not _OPERATOR.match(text, at):
            spoken = "a"
        elif letter == "A" and after and not named and after not in self._language.vocabulary("letters_after"):
            titled = before.istitle() and after.istitle()
            if not before or titled or self._shouted(text, at, before):
                spoken = "a"
        starters = self._language.vocabulary("sentence_starters")
        initial = _INITIAL.match(text, at)
        in_name = letter != "I" or (before[:1].isupper() and before not in starters)
        if initial and letter.isupper() and in_name and not named:
            following = _NEXT_WORD.match(text, initial.end())
            if not following or following[1] not in starters:
                at, spoken = initial.end(), letter
        return at, [Unit(words=(spoken,), written=letter)]

    def _foreign(self, text: str, word: re.Match[str]) -> tuple[int, list[Item]]:
        """A word with letters that have no ASCII form: Greek letters are read by name, others dropped."""
        signs = self._language.vocabulary("signs")
        first = word[0][0]
        if len(word[0]) == 1 or not any(letter not in signs for letter in word[0]):
            names = [name for letter in word[0] for name in (signs.find(letter) or "").split()]
            if names and len(word[0]) <= 2:
                return word.end(), [Unit(words=tuple(names), written=word[0])]
        if first in signs and word[0][1:].isascii():
            names = (signs.find(first) or "").split()
            return word.start() + 1, [Unit(words=tuple(names), written=first)]
        self.dropped.add(word[0])
        return word.end(), []

    def _count(self, text: str, at: int) -> tuple[int, list[Item]] | None:
        """A small number before a word that does not change its reading, such as 3 in `3 cats`; no rule is tried."""
        count = _COUNT.match(text, at)
        if count is None or count["word"] in self._language.after_numbers:
            return None
        self.after_value, self.starts, self.before = True, not self.before, "0"
        words = self._language.numbers.cardinal(int(count["count"]))
        return count.end("count"), [Unit(words=tuple(words), written=count["count"])]

    def _pause(self, text: str, at: int) -> tuple[int, list[Item]]:
        pause = _PAUSES.match(text, at)
        assert pause is not None
        self.after_value, self.before = False, ""
        self.quoted ^= pause[0].count('"') % 2 == 1
        strength = Break.SENTENCE if _SENTENCE.search(pause[0]) else Break.CLAUSE
        return pause.end(), [Pause(strength=strength, mark=_mark(pause[0]))]

    def _other(self, text: str, at: int) -> tuple[int, list[Item]]:
        """Continue at anything but a letter: a value, a pause or a sign."""
        ends = text[at] in ".!" and not text[at + 1 : at + 2].strip()
        if ends or (text[at] in _ONLY_PAUSES and not text.startswith(_FACES, at)):
            return self._pause(text, at)
        dash = _DASH.match(text, at) if self.after_value else None
        if dash and (dash.end() - at > 1) == (text[at - 1].isspace()):
            self.after_value = False
            word = self._language.numbers.terms["and" if self.between else "to"]
            return dash.end(), [Unit(words=(word,), written=dash[0], joined=True)]
        found = self._count(text, at) or self._rules(self._triggered.get(trigger_of(text[at]), ()), text, at)
        if found is not None:
            return found
        if _PAUSES.match(text, at):
            return self._pause(text, at)
        sign = text[at]
        words = self._signs.find(sign)
        if words is not None:
            return at + 1, [Unit(words=tuple(words.split()), written=sign)] if words else []
        if not sign.isascii() and unicodedata.category(sign) not in ("Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Mn", "Cc"):
            self.dropped.add(sign)
        return at + 1, []
