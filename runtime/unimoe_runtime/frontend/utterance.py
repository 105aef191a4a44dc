"""From items to a voice's input: words with phonemes and durations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unimoe_runtime.frontend.homographs import ByUse
from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Break, Item, Pause
from unimoe_runtime.frontend.pronunciation import MARKS, PAUSE, Phonemes
from unimoe_runtime.frontend.protocols import Durations

_PARAGRAPH_FACTOR = 2.0
_SENTENCE_MARKS = (".", "!", "?", ";", ":")
_SHORTEST_PHONEME_S = 0.02
LONGEST_SPOKEN_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class SpokenWord:
    """A word, its phonemes and their durations. A pause has one phoneme, PAUSE or one of MARKS."""

    word: str
    phonemes: Phonemes
    durations_s: tuple[float, ...] = ()

    @property
    def is_pause(self) -> bool:
        return len(self.phonemes) == 1 and self.phonemes[0] in (PAUSE, *MARKS)


@dataclass(frozen=True, kw_only=True)
class _Word:
    word: str
    sounds: Phonemes
    rate: float


def phrases_of(items: Sequence[Item]) -> list[list[str]]:
    """The words between pauses."""
    found: list[list[str]] = [[]]
    for item in items:
        if isinstance(item, Pause):
            found.append([])
            continue
        for word in item.words:
            if word == INNER_PAUSE:
                found.append([])
            else:
                found[-1].append(word)
    return [phrase for phrase in found if phrase]


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Converts items to a voice's words. `has_marks`: its pauses are the marks of the text."""

    lexicon: ByUse
    durations: Durations
    voice: str
    speed: float
    has_marks: bool = False

    def pause(self, pause: Pause) -> Phonemes:
        """The phoneme of a pause after a phrase."""
        if not self.has_marks:
            return (PAUSE,)
        if pause.mark:
            return (pause.mark,)
        return ("," if pause.strength == Break.CLAUSE else ".",)


def spoken_words(items: Sequence[Item], speaker: Speaker) -> list[SpokenWord]:
    """Words and pauses of a piece, starting and ending with a pause, with durations at the speaker's speed."""
    spoken: list[SpokenWord] = [SpokenWord(word="", phonemes=(PAUSE,))]
    rates, lengths = [1.0], [Pause()]
    phrases = _phrases(items)
    by_use = [sounds for sentence in _sentences(phrases) for sounds in speaker.lexicon.sentence(sentence)]
    for (words, pause), used in zip(phrases, by_use, strict=True):
        given = used | {index: word.sounds for index, word in enumerate(words) if word.sounds}
        sounds = speaker.lexicon.phrase_words([word.word for word in words], given)
        for word, phonemes in zip(words, sounds, strict=True):
            shown = word.word.lower() if len(word.word) > 1 else word.word
            spoken.append(SpokenWord(word=shown, phonemes=phonemes))
            rates.append(word.rate)
            lengths.append(Pause())
        spoken.append(SpokenWord(word="", phonemes=speaker.pause(pause)))
        rates.append(words[-1].rate)
        lengths.append(pause)
    seconds = iter(speaker.durations.word_durations(speaker.voice, [word.phonemes for word in spoken]))
    speed = speaker.speed
    timed: list[SpokenWord] = []
    for said, rate, length in zip(spoken, rates, lengths, strict=True):
        shortest_s = _SHORTEST_PHONEME_S if speed * rate > 1 else 0.0
        own = [max(next(seconds) / (speed * rate), shortest_s) for _ in said.phonemes]
        timed.append(replace(said, durations_s=(pause_seconds(own[0], length),) if said.is_pause else tuple(own)))
    return timed


def _sentences(phrases: Sequence[tuple[Sequence[_Word], Pause]]) -> list[list[list[str]]]:
    """The words of phrases by sentence."""
    found: list[list[list[str]]] = [[]]
    for words, pause in phrases:
        found[-1].append([word.word for word in words])
        if pause.strength >= Break.SENTENCE or pause.mark in _SENTENCE_MARKS:
            found.append([])
    return found


def pause_seconds(usual_s: float, pause: Pause) -> float:
    """Seconds of a pause, as the text asks for it, else from `usual_s`, the voice's own."""
    if pause.seconds is not None:
        return max(min(pause.seconds, LONGEST_SPOKEN_PAUSE_S), _SHORTEST_PHONEME_S)
    return usual_s * (_PARAGRAPH_FACTOR if pause.strength == Break.PARAGRAPH else 1.0)


def _phrases(items: Sequence[Item]) -> list[tuple[list[_Word], Pause]]:
    """Words between pauses: each phrase with the pause after it."""
    found: list[tuple[list[_Word], Pause]] = []
    words: list[_Word] = []
    for item in items:
        if isinstance(item, Pause):
            if words:
                found.append((words, item))
                words = []
            continue
        for index, word in enumerate(item.words):
            if word == INNER_PAUSE:
                if words:
                    found.append((words, Pause()))
                    words = []
                continue
            sounds = item.sounds if index == 0 else ()
            if item.sounds and index:
                continue
            words.append(_Word(word=word, sounds=sounds, rate=item.rate))
    if words:
        found.append((words, Pause(strength=Break.SENTENCE)))
    return found
