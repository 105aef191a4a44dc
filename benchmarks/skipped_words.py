"""How many of many texts, of 1 to 60 words, are spoken with a skip, a repetition or a runaway.

    python -m benchmarks.skipped_words BUNDLE [--texts 500] [--judge tiny.en] [--json FILE]

Texts are everyday sentences in random order, cut to a drawn number of words; the voices take turns. A text fails where
Whisper misses or adds three words or more in a row, or where the step limit cuts it off.
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
    parser.add_argument("--judge", default="tiny.en", choices=["base", "tiny.en"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    judge = Whisper(options.judge)
    total = WordErrors()
    failed: list[dict[str, object]] = []
    with Synthesizer.open(options.bundle) as synthesizer:
        voices = list(synthesizer.frontend.voices)
        for number, text in enumerate(draw_texts(options.texts, options.seed)):
            voice = voices[number % len(voices)]
            made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=number))
            pcm_L = np.pad(resample(made.pcm_L, made.sample_rate_hz, _RATE_HZ), round(_EDGE_S * _RATE_HZ))
            heard = judge(pcm_L)
            errors = count_errors(text, heard)
            total += errors
            if errors.longest_gap >= _GAP_WORDS or not made.ended:
                failed.append({"voice": voice, "text": text, "heard": heard, "ended": made.ended})
                print(f"{voice}: {text} | {heard}", flush=True)
    result = {"texts": options.texts, "failed": len(failed), "wer": round(total.rate, 4), "judge": options.judge}
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps({**result, "failures": failed}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
