"""Durations of phonemes: means for each voice, which map text to the audio's time axis.

    durations.tsv   voice <TAB> phoneme <TAB> place <TAB> mean seconds

Places: "first" is the pause before the first word; "last" is the pause at the end and the part of a phrase from its
last vowel on, where speech slows down; "inner" is everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unimoe_runtime.errors import BundleError
from unimoe_runtime.frontend.lexicon import VOWELS, Table
from unimoe_runtime.frontend.pronunciation import PAUSE


@dataclass(frozen=True, kw_only=True)
class DurationTable:
    """Mean seconds by (voice, phoneme, place)."""

    seconds: Mapping[tuple[str, str, str], float]

    @classmethod
    def read(cls, path: Path) -> DurationTable:
        """Read a table. Raises BundleError with file and line where a row has no number of seconds above 0."""
        seconds: dict[tuple[str, str, str], float] = {}
        for number, (key, mean) in enumerate(Table(path, 4).rows.items(), start=1):
            voice, phoneme, place = key.split("\t")
            try:
                seconds[voice, phoneme, place] = float(mean)
            except ValueError:
                raise BundleError(f"{path}:{number}: {mean!r} is not a number of seconds; export again") from None
            if not 0 < seconds[voice, phoneme, place] < 10:
                raise BundleError(f"{path}:{number}: a phoneme cannot last {mean} s; export again")
        return cls(seconds=seconds)

    def word_durations(self, voice: str, words: Sequence[tuple[str, ...]]) -> list[float]:
        """Seconds of each phoneme of an utterance; see `durations`."""
        return self.durations(voice, [phoneme for word in words for phoneme in word])

    def typical(self, voice: str) -> dict[str, float]:
        """Seconds of each phoneme inside a phrase."""
        return {
            phoneme: mean for (name, phoneme, place), mean in self.seconds.items() if (name, place) == (voice, "inner")
        }

    def durations(self, voice: str, phonemes: Sequence[str]) -> list[float]:
        """Seconds of each phoneme. A phoneme without an entry for its place has its inner duration.

        Raises BundleError for a phoneme without any entry.
        """
        try:
            return [
                self.seconds.get((voice, phoneme, place)) or self.seconds[voice, phoneme, "inner"]
                for phoneme, place in zip(phonemes, places(phonemes), strict=True)
            ]
        except KeyError as error:
            raise BundleError(
                f"durations.tsv has no duration for {error.args[0][:2]}; export the bundle again"
            ) from None


def places(phonemes: Sequence[str]) -> list[str]:
    """Place of each phoneme of an utterance that starts and ends with a pause."""
    found = ["inner"] * len(phonemes)
    closing = False  # True from the phrase's end back to its last vowel
    for index in reversed(range(len(phonemes))):
        if phonemes[index] == PAUSE:
            closing = True
        elif closing:
            found[index] = "last"
            closing = phonemes[index] not in VOWELS
    if phonemes and phonemes[0] == PAUSE:
        found[0] = "first"
    if len(phonemes) > 1 and phonemes[-1] == PAUSE:
        found[-1] = "last"
    return found
