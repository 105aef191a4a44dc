"""A small front end for tests: two voices, two instruments, a lexicon of a few words."""

from __future__ import annotations

import json
import string
from pathlib import Path

PHONEMES = "pau aa ae ax b eh f iy ih k l n s t z".split()
MUSIC = {
    "lowest_pitch": 55, "highest_pitch": 84, "lowest_tempo_bpm": 80, "highest_tempo_bpm": 160, "max_notes": 8,
    "default_instrument": "piano", "default_tempo_bpm": 120, "lead_s": 0.1, "tail_s": 0.3,
}  # fmt: skip


def write_frontend(folder: Path, **changes: object) -> Path:
    """A small front end: two voices, two instruments, a lexicon of a few words."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"cat": "k ae t", "the": "z ax", "the~": "z iy", "hello": "eh l ax"}
    words |= {letter: "eh f" for letter in string.ascii_uppercase} | {"a": "ax"}
    (folder / "lexicon.tsv").write_text("".join(f"{word}\t{sounds}\n" for word, sounds in words.items()))
    rules = [("", letter, "", "iy" if letter in "aeiouy" else "b") for letter in string.ascii_lowercase]
    rules += [("", "e", "#", "-"), ("s", "h", "", "-"), ("", "s", "h", "s"), ("#", "e", "#", "iy")]
    (folder / "letter_to_sound.tsv").write_text("".join("\t".join(rule) + "\n" for rule in rules))
    rows = [
        f"{voice}\t{phoneme}\tinner\t{0.1 * (1 + index)}\n"
        for index, voice in enumerate(("ann", "bob"))
        for phoneme in PHONEMES
    ]
    (folder / "durations.tsv").write_text("".join([*rows, "ann\tae\tlast\t0.2\n", "ann\tpau\tfirst\t0.3\n"]))
    settings: dict[str, object] = {
        "kind": "timeline", "format_version": 1, "frame_rate_hz": 50.0, "origin": 2, "max_characters": 60,
        "max_frames": 320, "default_voice": "ann", "abbreviations": {"Dr": "doctor"}, "music": MUSIC,
        "tokens": ["pad", "separator", "voice:ann", "voice:bob", "instrument:piano", "instrument:flute",
                   *(f"phoneme:{name}" for name in PHONEMES), *(f"note:{note}" for note in range(55, 85))],
    }  # fmt: skip
    (folder / "frontend.json").write_text(json.dumps(settings | changes))
    return folder
