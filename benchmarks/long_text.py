"""Time to first audio of a megabyte of text, beside a short text, and the growth of reading time with length.

python -m benchmarks.long_text BUNDLE [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from unimoe_runtime import SynthesisRequest, Synthesizer
from unimoe_runtime.frontend.reading import read_phrases

SHORT = "The cat sat on 12 mats. "
LONG_CHARACTERS = 1_000_000
TEXTS = {"short": SHORT, "a megabyte of sentences": SHORT * (LONG_CHARACTERS // len(SHORT)), "of lines": ""}
TEXTS["of lines"] = TEXTS["a megabyte of sentences"].replace(". ", ".\n")


def first_audio_s(synthesizer: Synthesizer, text: str) -> float:
    """Seconds from the request to the first chunk."""
    with synthesizer.stream(SynthesisRequest(text=text, seed=1)) as stream:
        next(stream)
        return stream.outcome.first_audio_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with Synthesizer.open(options.bundle, warm=True) as synthesizer:
        times: dict[str, list[float]] = {name: [] for name in TEXTS}
        for _ in range(options.rounds):
            for name, text in TEXTS.items():
                times[name].append(first_audio_s(synthesizer, text))
    short_s = statistics.median(times["short"])
    for name, found in times.items():
        median_s = statistics.median(found)
        print(f"{name}: first audio after {1000 * median_s:.0f} ms, {median_s / short_s:.2f} times the short text's")
    for length in (50_000, 100_000, 200_000):
        began = time.perf_counter()
        read_phrases(TEXTS["of lines"][:length])
        print(f"{length} characters read in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
