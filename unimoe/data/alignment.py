"""Forced alignment: pocketsphinx with its English model finds when each phoneme of a recording is spoken.

The phonemes of the words come from the front end, so a recording trains the phonemes that the model reads later.

Shapes: L samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from unimoe.data.flite import Alignment
from unimoe.data.requirements import require_pocketsphinx
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.pronunciation import PAUSE

_RATE_HZ = 16000
_FRAME_S = 0.01
_PADDING_S = 0.1
_SPLIT: Final[Mapping[str, tuple[str, ...]]] = {
    "ax": ("AH",), "axr": ("ER",), "el": ("AH", "L"), "em": ("AH", "M"), "en": ("AH", "N"),
}  # fmt: skip
"""Phonemes that pocketsphinx lacks. It knows every other phoneme by its name in capitals."""


class Aligner:
    """pocketsphinx, which finds when the words of a known text are spoken."""

    def __init__(self) -> None:
        require_pocketsphinx()
        from pocketsphinx import Config, Decoder

        self._decoder: Any = Decoder(Config(samprate=float(_RATE_HZ), loglevel="FATAL", lm=None))

    def __call__(self, pcm_L: np.ndarray, words: Sequence[Sequence[str]]) -> Alignment:
        """Phonemes with end times, pauses included, of 16 kHz audio that says `words`. Each word is its phonemes.

        Empty where pocketsphinx cannot fit the words to the sound.
        """
        names = [self._add(sounds) for sounds in words]
        padding = np.zeros(round(_PADDING_S * _RATE_HZ), dtype="<i2")
        samples = np.concatenate([padding, np.round(np.clip(pcm_L, -1, 1) * 32767).astype("<i2"), padding]).tobytes()
        decoder = self._decoder
        try:
            decoder.set_align_text(" ".join(names))
            self._hear(samples)
            decoder.set_alignment()  # the second pass takes the words as found and finds their phonemes
            self._hear(samples)
            found = decoder.get_alignment()
        except RuntimeError:
            return ()
        return () if found is None else _collect(found, names, words, len(pcm_L) / _RATE_HZ)

    def _hear(self, samples: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(samples, full_utt=True)
        self._decoder.end_utt()

    def _add(self, sounds: Sequence[str]) -> str:
        """Register a word with these phonemes and return its name."""
        name = "_".join(sounds)
        if self._decoder.lookup_word(name) is None:
            spelled = " ".join(phone for sound in sounds for phone in _SPLIT.get(sound, (sound.upper(),)))
            self._decoder.add_word(name, spelled, True)
        return name


def _collect(found: Any, names: Sequence[str], words: Sequence[Sequence[str]], length_s: float) -> Alignment:
    """Alignment of the requested words. Everything between them is silence."""
    aligned: list[tuple[str, float]] = []
    waiting = list(zip(names, words, strict=True))

    def end_s(segment: Any) -> float:
        return min(max((segment.start + segment.duration) * _FRAME_S - _PADDING_S, 0.0), length_s)

    for word in found:
        # A variant's number may follow a name, as in "k_ae_t(2)".
        if not waiting or word.name.partition("(")[0] != waiting[0][0]:
            aligned.append((PAUSE, end_s(word)))
            continue
        _, sounds = waiting.pop(0)
        phones = list(word)
        for sound in sounds:
            taken = [phones.pop(0) for _ in _SPLIT.get(sound, (sound,)) if phones]
            if not taken:
                return ()
            aligned.append((sound, end_s(taken[-1])))
    if waiting:
        return ()
    if not aligned or aligned[0][0] != PAUSE:
        aligned.insert(0, (PAUSE, 0.0))
    if aligned[-1][0] != PAUSE:
        aligned.append((PAUSE, length_s))
    aligned[-1] = (PAUSE, length_s)
    return tuple((sound, round(end, 4)) for sound, end in aligned)


def sounds_of(phrases: Sequence[Sequence[str]], lexicon: Lexicon) -> list[list[str]]:
    """Phonemes of each word of a text. The next word decides how "the" is pronounced."""
    spoken: list[list[str]] = []
    for words in phrases:
        for index in range(len(words)):
            whole, after = lexicon.phrase(words[index:]), lexicon.phrase(words[index + 1 :])
            spoken.append(whole[: len(whole) - len(after)])
    return spoken
