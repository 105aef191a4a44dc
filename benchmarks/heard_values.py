"""How many of the values in 60 sentences Whisper hears correctly.

    python -m benchmarks.heard_values [--bundle BUNDLE] [--voice VOICE] [--misses]

The front end reads each sentence of benchmarks/data/heard_values.txt, a voice speaks it, and Whisper base transcribes
it. The front end reads both texts again, and the script compares the words of their values: numbers, ordinals, signs,
units of money. Without a bundle the teacher speaks, so that the score concerns the reading only.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unimoe.data.kokoro import SAMPLE_RATE_HZ, Teacher
from unimoe.evaluation.whisper import Whisper
from unimoe_runtime.audio.files import resample
from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.pronunciation import Phrase
from unimoe_runtime.frontend.reading import read_phrases
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

LINES = Path(__file__).parent / "data" / "heard_values.txt"
WHISPER_RATE_HZ = 16000
_MORE = frozenset("hundred point minus half halves quarter quarters percent dollars dollar euros cents".split())


def value_words(text: str) -> list[str]:
    """The words of a text that state values."""
    numbers = open_language("en").numbers
    known = {word for value in (*range(100), 10**6, 10**9, 10**12, 1000) for word in numbers.cardinal(value)}
    known |= {numbers.ordinal(value)[-1] for value in range(1, 100)} | _MORE
    words = [word.lower() for phrase in read_phrases(text) for word in phrase]
    return ["zero" if word == "oh" else word for word in words if word in known or word == "oh"]


def teacher(voice: str) -> Callable[[str], np.ndarray]:
    """A speaker that uses Kokoro and spells words that its dictionary lacks."""
    from unimoe_runtime.frontend.pronunciation import spell

    kokoro = Teacher.open()
    kokoro = replace(kokoro, pronouncer=replace(kokoro.pronouncer, sound_out=spell))

    def speak(text: str) -> np.ndarray:
        phrases = read_phrases(text)
        marks = ["," if index + 1 < len(phrases) else "." for index in range(len(phrases))]
        said = [Phrase(words=tuple(words), mark=mark) for words, mark in zip(phrases, marks, strict=True)]
        return resample(kokoro.speak(said, voice).pcm_L, SAMPLE_RATE_HZ, WHISPER_RATE_HZ)

    return speak


def bundle_voice(synthesizer: Synthesizer, voice: str) -> Callable[[str], np.ndarray]:
    """A speaker that uses a bundle."""

    def speak(text: str) -> np.ndarray:
        made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=1))
        return resample(made.pcm_L, made.sample_rate_hz, WHISPER_RATE_HZ)

    return speak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="whose voice speaks [default: the teacher's]")
    parser.add_argument("--voice", default="", help="[default: heart for the teacher, the first of a bundle]")
    parser.add_argument("--misses", action="store_true", help="print what is heard otherwise")
    options = parser.parse_args()
    lines = LINES.read_text(encoding="utf-8").splitlines()
    if options.bundle is None:
        speak = teacher(options.voice or "heart")
        clips = [speak(line) for line in lines]
    else:
        with Synthesizer.open(options.bundle) as synthesizer:
            speak = bundle_voice(synthesizer, options.voice)
            clips = [speak(line) for line in lines]
    whisper, right = Whisper("base"), 0
    for line, pcm_L in zip(lines, clips, strict=True):
        heard = whisper(pcm_L)
        pairs = re.sub(r"\b([12]\d)([0-5]\d)\b", r"\1 \2", heard)  # Whisper writes 1745 for seventeen forty five
        same = value_words(line) in (value_words(heard), value_words(pairs))
        right += same
        if options.misses and not same:
            print(f"{line!r}: {heard!r}: {value_words(heard)}, not {value_words(line)}")
    print(f"{right} of {len(lines)} lines: every value is heard right ({100 * right / len(lines):.1f} %)")


if __name__ == "__main__":
    main()
