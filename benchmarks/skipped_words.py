"""How many of many texts, of 1 to 60 words, are spoken with a skip, a repetition or a runaway.

    python -m benchmarks.skipped_words BUNDLE [--texts 500] [--json FILE]

Texts are everyday sentences in random order, cut to a drawn number of words; the voices take turns. Whisper tiny.en
hears every text. Where it misses or adds three words or more in a row, Whisper base hears the text too: it fails where
both do. Texts that end at the step limit, without an end token, are counted as cut.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.everyday_speech import SENTENCES
from unimoe.data.parallel import spread
from unimoe.evaluation.whisper import Whisper
from unimoe.evaluation.word_errors import WordErrors, count_errors
from unimoe_runtime.audio.files import resample
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

MOST_WORDS = 60
_GAP_WORDS = 3
_RATE_HZ = 16000
_EDGE_S = 0.3  # silence around a clip: Whisper misses words at the very edge


def draw_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of 1 to MOST_WORDS words."""
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    rng = random.Random(seed)
    for _ in range(count):
        words = " ".join(rng.sample(sentences, len(sentences))).split()[: rng.randint(1, MOST_WORDS)]
        yield " ".join(words).rstrip(".,?!;:") + "."


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the judges made of one text; base hears it only where tiny.en has a gap of three words or more."""

    voice: str
    text: str
    ended: bool
    errors: WordErrors
    tiny: str
    base: str | None

    @property
    def failed(self) -> bool:
        return self.base is not None and count_errors(self.text, self.base).longest_gap >= _GAP_WORDS


@cache
def _opened(bundle: Path) -> tuple[Synthesizer, Whisper, Whisper]:
    """One of each for a process, which uses one thread. They live as long as it does."""
    return Synthesizer.open(bundle, threads=1), Whisper("tiny.en"), Whisper("base")


def hear(bundle: Path, numbered: tuple[int, str]) -> Heard:
    """Speak a text with the voice whose turn it is, and have it heard."""
    synthesizer, judge, second = _opened(bundle)
    number, text = numbered
    voices = list(synthesizer.frontend.voices)
    voice = voices[number % len(voices)]
    made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=number))
    pcm_L = np.pad(resample(made.pcm_L, made.sample_rate_hz, _RATE_HZ), round(_EDGE_S * _RATE_HZ))
    heard = judge(pcm_L)
    errors = count_errors(text, heard)
    base = second(pcm_L) if errors.longest_gap >= _GAP_WORDS else None
    return Heard(voice=voice, text=text, ended=made.ended, errors=errors, tiny=heard, base=base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each [default: 2]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    total = WordErrors()
    doubted: list[Heard] = []
    cut = 0
    texts = enumerate(draw_texts(options.texts, options.seed))
    with spread(options.workers) as run:
        for done, heard in enumerate(run(partial(hear, options.bundle), texts), start=1):
            total += heard.errors
            cut += not heard.ended
            if heard.base is not None:
                doubted.append(heard)
                print(f"{heard.voice}: {heard.text} | {heard.tiny} | {heard.base}", flush=True)
            if done % 50 == 0:
                print(f"{done} of {options.texts} texts, {total.errors} of {total.words} words wrong", flush=True)
    failed = sum(heard.failed for heard in doubted)
    result = {
        "texts": options.texts,
        "failed": failed,
        "doubted": len(doubted),
        "cut": cut,
        "wer": round(total.rate, 4),
    }
    print(json.dumps(result))
    if options.json:
        doubts = [{"voice": one.voice, "text": one.text, "tiny.en": one.tiny, "base": one.base} for one in doubted]
        options.json.write_text(json.dumps({**result, "doubts": doubts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
