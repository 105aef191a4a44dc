"""Videos with false headers."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from tests.robustness.bases import Bases
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_text

_ATOMS = {b"mvhd": (12, 16, 20), b"mdhd": (12, 16), b"stts": (8, 12), b"stsz": (4, 8, 12), b"stsc": (4, 8, 12),
          b"tkhd": (76, 80, 20), b"stco": (4, 8), b"elst": (8, 12), b"mp4v": (24, 26), b"moov": (-8,),
          b"mdat": (-8,)}  # fmt: skip
"""Places of 32-bit numbers behind the name of an atom: time scales, durations, counts, sizes."""


def video(bases: Bases, folder: Path, rng: random.Random) -> Case:
    source = rng.choice(bases.videos)
    content, free = source.read_bytes(), True
    match rng.randrange(5):
        case 0 | 1 if source.suffix == ".mp4":
            name = rng.choice([name for name in _ATOMS if name in content])
            place = content.index(name) + 4 + rng.choice(_ATOMS[name])
            value = rng.choice((0, 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 10**6))
            content = content[:place] + struct.pack(">I", value) + content[place + 4 :]
            what = f"{name.decode()} = {value}"
        case 2:
            what, content = "cut off", content[: rng.randrange(len(content))]
        case 3:
            what, content = damage_text(content, rng)
        case _:
            raw, count = bytearray(content), rng.choice((1, 8, 64))
            for _ in range(count):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            what, content = f"{count} other bytes", bytes(raw)
    path = folder / f"clip{source.suffix}"
    path.write_bytes(content)
    out = folder / "out.wav"
    argv = ("synth", str(bases.published), "--task", "music", "--text", "a flute", "--video", str(path),
            "--min-steps", "2", "--max-steps", "8", "--seed", "3", "-o", str(out))  # fmt: skip
    return Case(format="videos", what=f"{source.suffix}: {what}", argv=argv, audio=out, free=free, folder=folder)


MUTATORS: dict[str, tuple[Mutator, int]] = {"videos": (video, 6)}
