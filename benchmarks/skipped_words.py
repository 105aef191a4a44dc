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
from pathlib import Path

import numpy as np

from benchmarks.everyday_speech import SENTENCES
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    judge, second = Whisper("tiny.en"), Whisper("base")
    total = WordErrors()
    doubts: list[dict[str, object]] = []
    failed = cut = 0
    with Synthesizer.open(options.bundle) as synthesizer:
        voices = list(synthesizer.frontend.voices)
        for number, text in enumerate(draw_texts(options.texts, options.seed)):
            voice = voices[number % len(voices)]
            made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=number))
            pcm_L = np.pad(resample(made.pcm_L, made.sample_rate_hz, _RATE_HZ), round(_EDGE_S * _RATE_HZ))
            heard = judge(pcm_L)
            errors = count_errors(text, heard)
            total += errors
            cut += not made.ended
            if errors.longest_gap >= _GAP_WORDS:
                again = second(pcm_L)
                failed += count_errors(text, again).longest_gap >= _GAP_WORDS
                doubts.append({"voice": voice, "text": text, "tiny.en": heard, "base": again})
                print(f"{voice}: {text} | {heard} | {again}", flush=True)
    result = {"texts": options.texts, "failed": failed, "doubted": len(doubts), "cut": cut, "wer": round(total.rate, 4)}
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps({**result, "doubts": doubts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
