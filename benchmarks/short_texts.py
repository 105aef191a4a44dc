"""How many of 32 short texts a bundle speaks to their end, and how many the step limit cuts off.

python -m benchmarks.short_texts BUNDLE [--seeds N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimoe_runtime import SynthesisRequest, Synthesizer

TEXTS = (
    "OK", "Hi", "No", "Yes", "Go", "Stop", "Now", "Up", "Off", "On", "Bye", "Hey", "One", "Two", "Six", "Ten", "A",
    "I", "Me", "You", "Oh", "Ah", "Thanks", "Please", "Wait", "Left", "Right", "Home", "Good", "Fine", "Sure", "Hello",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    cut: list[str] = []
    with Synthesizer.open(options.bundle) as synthesizer:
        for text in TEXTS:
            for seed in range(options.seeds):
                if not synthesizer.synthesize(SynthesisRequest(text=text, seed=seed)).ended:
                    cut.append(f"{text} (seed {seed})")
    print("| texts | seeds | spoken to the end | cut off |\n| ---: | ---: | ---: | ---: |")
    runs = len(TEXTS) * options.seeds
    print(f"| {len(TEXTS)} | {options.seeds} | {runs - len(cut)} | {len(cut)} |")
    if cut:
        print("cut off: " + ", ".join(cut))


if __name__ == "__main__":
    main()
