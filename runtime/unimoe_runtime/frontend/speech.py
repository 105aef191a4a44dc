"""From a text to utterances: words with phonemes and durations, each short enough for one prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, chain, pairwise

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.homographs import NEIGHBOURS, ByUse, Homographs, Neighbours, uses_of
from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Item, Normaliser, Pause, open_language
from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions
from unimoe_runtime.frontend.phonemes import parse_phonemes
from unimoe_runtime.frontend.prepared import PhonemeTime, WordTime
from unimoe_runtime.frontend.pronunciation import MARKS, PAUSE
from unimoe_runtime.frontend.protocols import Durations, Pronunciations
from unimoe_runtime.frontend.reading import Notes, TextReader
from unimoe_runtime.frontend.splitting import halve_items, split_items
from unimoe_runtime.frontend.tense_words import TENSE_WORDS, TenseWords
from unimoe_runtime.frontend.utterance import (
    LONGEST_SPOKEN_PAUSE_S,
    Speaker,
    SpokenWord,
    pause_seconds,
    phrases_of,
    spoken_words,
)

_FIRST_PIECE_S = 2.5
_SHORT_TEXT = 500  # characters; up to this length the reader tries whether the whole text fits one prompt
_ROOM = 0.9  # of the limit: a piece is filled only so far, because the sum of its words' lengths is an estimate
_WORDS = 4096  # words whose estimated lengths are kept while a text is cut


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """The content of one prompt. `silence_before_s`, `silence_after_s`: silence that the text asks for around it.

    `has_long_pause`: one of the pauses that the text asks for is longer than any of the voice's own.
    """

    words: tuple[SpokenWord, ...]
    caption: str
    silence_before_s: float = 0.0
    silence_after_s: float = 0.0
    has_long_pause: bool = False

    @property
    def duration_s(self) -> float:
        return sum(sum(word.durations_s) for word in self.words)

    @property
    def times(self) -> tuple[WordTime, ...]:
        """The expected times of each word and of its phonemes."""
        found, at_s = [], 0.0
        for word in self.words:
            ends_s = [round(end_s, 4) for end_s in accumulate(word.durations_s, initial=at_s)]
            if not word.is_pause:
                phonemes = tuple(
                    PhonemeTime(phoneme=phoneme, start_s=start_s, end_s=end_s)
                    for phoneme, (start_s, end_s) in zip(word.phonemes, pairwise(ends_s), strict=True)
                )
                found.append(WordTime(word=word.word, start_s=ends_s[0], end_s=ends_s[-1], phonemes=phonemes))
            at_s += sum(word.durations_s)
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class SpeechReader:
    """Reads text for voices that have a table of durations.

    `language`: the tables for reading text. `abbreviations`: the bundle's own. `phonemes`: those of the voices.
    """

    language: str
    abbreviations: Mapping[str, str]
    lexicon: Pronunciations
    durations: Durations
    phonemes: frozenset[str]

    @property
    def short_forms(self) -> tuple[str, ...]:
        """Written forms whose full stop does not end a sentence by itself: the bundle's and the language's."""
        return (*self.abbreviations, *open_language(self.language).short_forms)

    def load(self) -> None:
        """Make all that reading a text needs, now instead of at the first text that needs it."""
        open_language(self.language).compile()
        self._lexicon(NO_OPTIONS)

    def utterances(
        self, text: str, voice: str, options: SpeechOptions, limit_s: float, notes: Notes
    ) -> Iterator[Utterance]:
        """The utterances of a text, made lazily, each of `limit_s` at most.

        Raises PromptError, one line, for invalid marks and for phonemes that the voice lacks.
        """
        if len(text) <= _SHORT_TEXT:
            whole = self.whole(text, voice, options, notes)
            if whole.duration_s <= limit_s and not whole.has_long_pause:
                if whole.words:
                    yield whole
                return
        lexicon = self._lexicon(options)
        cost = _Cost(lexicon=lexicon, durations=self.durations, voice=voice, speed=options.speed)
        items = self._reader(lexicon, options).read(text, notes)
        start = next(items, None)
        lead = [start] if isinstance(start, Pause) else []
        items = items if lead or start is None else chain([start], items)
        first_s, pause_s = min(_FIRST_PIECE_S, limit_s / 2), LONGEST_SPOKEN_PAUSE_S
        for piece in split_items(items, cost, _ROOM * limit_s, first_s, longest_pause_s=pause_s):
            yield from self._fitting([*lead, *piece], voice, options, lexicon, limit_s)
            lead = []

    def _fitting(
        self, items: list[Item], voice: str, options: SpeechOptions, lexicon: ByUse, limit_s: float
    ) -> Iterator[Utterance]:
        """A piece as one utterance; as several, where its real durations are above the limit and not the estimate."""
        made = self._utterance(items, voice, options, lexicon)
        halves = halve_items(items) if made.duration_s > limit_s else None
        if halves is None:
            yield made
            return
        for half in halves:
            yield from self._fitting(half, voice, options, lexicon, limit_s)

    def whole(
        self, text: str, voice: str, options: SpeechOptions = NO_OPTIONS, notes: Notes | None = None
    ) -> Utterance:
        """A complete text as one utterance of any length. Raises PromptError as `utterances` does."""
        lexicon = self._lexicon(options)
        items = list(self._reader(lexicon, options).read(text, notes))
        return self._utterance(items, voice, options, lexicon)

    def _reader(self, lexicon: Pronunciations, options: SpeechOptions) -> TextReader:
        def known(word: str) -> bool:
            return word in lexicon.words or (word.endswith("s") and word[:-1] in lexicon.words)

        return TextReader(
            normaliser=Normaliser(
                language=open_language(self.language),
                known=known,
                abbreviations=self.abbreviations,
                own={word.lower() for word in options.lexicon},
            ),
            phonemes=lambda written, alphabet: parse_phonemes(written, self.phonemes, alphabet),
        )

    def _lexicon(self, options: SpeechOptions) -> ByUse:
        own = {}
        for word, written in options.lexicon.items():
            try:
                own[word] = parse_phonemes(written, self.phonemes)
            except PromptError as error:
                raise PromptError(f"lexicon, {word!r}: {error}") from None
        return self.pronunciations.with_words(own) if own else self.pronunciations

    @cached_property
    def pronunciations(self) -> ByUse:
        """The lexicon, completed and corrected with the language's own words, and its homographs."""
        sounds = self._sounds("pronunciations")
        corrections = self._sounds("corrections")
        own = {word: phonemes for word, phonemes in sounds.items() if word not in self.lexicon.words} | corrections
        language = open_language(self.language)
        fixed = {tuple(phrase.split()): phonemes for phrase, phonemes in self._sounds("fixed_sounds").items()}
        homographs = Homographs(
            uses=uses_of(
                self._sounds("noun_sounds"),
                self._sounds("verb_sounds"),
                adjectives=language.vocabulary("homograph_adjectives").words,
                usual_verbs=language.vocabulary("usual_verbs").words,
                but=corrections,
            ),
            neighbours=Neighbours(**{name: language.vocabulary(name).words for name in NEIGHBOURS}),
            fixed=fixed,
            past=self._sounds("past_sounds"),
            names=self._sounds("name_sounds") | self._sounds("place_sounds"),
            tense=TenseWords(**{name: language.vocabulary(name).words for name in TENSE_WORDS}),
        )
        return ByUse(lexicon=self.lexicon.with_words(own) if own else self.lexicon, homographs=homographs)

    def _sounds(self, vocabulary: str) -> dict[str, tuple[str, ...]]:
        """Phonemes by the entries of one of the language's vocabularies, those that the voice has."""
        found: dict[str, tuple[str, ...]] = {}
        for written, sounds in open_language(self.language).vocabulary(vocabulary).words.items():
            with suppress(PromptError):  # the voice lacks one of the phonemes
                found[written] = parse_phonemes(sounds, self.phonemes, "arpabet")
        return found

    @property
    def _has_marks(self) -> bool:
        return set(MARKS) <= self.phonemes

    def _utterance(self, items: list[Item], voice: str, options: SpeechOptions, lexicon: ByUse) -> Utterance:
        speaker = Speaker(
            lexicon=lexicon,
            durations=self.durations,
            voice=voice,
            speed=options.speed,
            has_marks=self._has_marks,
        )
        words = spoken_words(items, speaker)
        caption = ", ".join(" ".join(word.lower() for word in phrase) for phrase in phrases_of(items))
        before_s, after_s = (_asked_s(items[0]), _asked_s(items[-1])) if items else (0.0, 0.0)
        long_pause = any(isinstance(one, Pause) and (one.seconds or 0) > LONGEST_SPOKEN_PAUSE_S for one in items)
        return Utterance(
            words=tuple(words) if len(words) > 2 else (),
            caption=caption,
            silence_before_s=before_s,
            silence_after_s=max(0.0, after_s - LONGEST_SPOKEN_PAUSE_S),
            has_long_pause=long_pause,
        )


def _asked_s(item: Item) -> float:
    """Seconds of a pause that the text asks for; 0 for anything else."""
    return item.seconds or 0.0 if isinstance(item, Pause) else 0.0


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Estimated seconds of an item alone."""

    lexicon: Pronunciations
    durations: Durations
    voice: str
    speed: float

    def __call__(self, item: Item) -> float:
        if isinstance(item, Pause):
            usual_s = (self._inner.get(",") or self._inner[PAUSE]) / self.speed
            return pause_seconds(usual_s, item)
        if item.sounds:
            return sum(self._inner.get(sound, 0.1) for sound in item.sounds) / (self.speed * item.rate)
        return sum(map(self._word_s, item.words)) / (self.speed * item.rate)

    @cached_property
    def _word_s(self) -> Callable[[str], float]:
        """Seconds of a word at normal speed. A text's cuts ask for each word several times."""

        @lru_cache(_WORDS)
        def measure(word: str) -> float:
            sounds = (PAUSE,) if word == INNER_PAUSE else self.lexicon.pronounce(word)
            return sum(self._inner.get(sound, 0.1) for sound in sounds)

        return measure

    @cached_property
    def _inner(self) -> Mapping[str, float]:
        return self.durations.typical(self.voice)
