"""How many lines of public test sets for text normalisation the front end reads correctly.

    python -m benchmarks.reading_text [--misses] [--json FILE]

Two scores. "as written": the same words in the same order, without capitals and punctuation. "same value" also ignores
conventions of the sets that do not change the value: `and` inside numbers, `the`, `of`, `negative` for minus, `oh` for
zero, and the order of day and month. The lines and their licences: benchmarks/data/public_readings.tsv.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

from unimoe_runtime.frontend.reading import read_phrases

LINES = Path(__file__).parent / "data" / "public_readings.tsv"
_LEFT_OUT = frozenset({"and", "the", "of"})
_SAME = {"negative": "minus", "oh": "zero", "misses": "missus"}


def words_of(reading: str) -> list[str]:
    """A reading's words in lower case; spelled capitals become single letters."""
    found: list[str] = []
    for word in re.findall(r"[A-Za-z']+", reading):
        spelled = len(word) > 1 and word.isupper()
        found += list(word.lower()) if spelled else [word.lower().strip("'")]
    return [word for word in found if word]


def value_of(words: list[str]) -> list[str]:
    """The words without the sets' conventions."""
    return sorted(_SAME.get(word, word) for word in words if word not in _LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true", help="print the lines that are read otherwise")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for line in LINES.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            continue
        source, _, text, reading = line.split("\t")
        said = [word.lower() for phrase in read_phrases(text) for word in phrase]
        wanted = words_of(reading)
        same = value_of(said) == value_of(wanted)
        counts[f"{source} lines"] += 1
        counts[f"{source} as written"] += said == wanted
        counts[f"{source} same value"] += same
        if options.misses and not same:
            print(f"{source}: {text!r}: {' '.join(said)!r}, the set says {reading!r}")
    for source in ("nemo", "wetext"):
        lines = counts[f"{source} lines"]
        shares = [f"{100 * counts[f'{source} {kind}'] / lines:.1f} % {kind}" for kind in ("as written", "same value")]
        print(f"{source}: {lines} lines, {', '.join(shares)}")
    if options.json:
        options.json.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
