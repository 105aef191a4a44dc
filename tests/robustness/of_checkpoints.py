"""Checkpoints for `unimoe export` and `unimoe plan`: configuration, weights, codec folder, front end."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

from tests.robustness.bases import Bases, copy_tree, put
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_document, damage_text


def _export(folder: Path, format: str, what: str, checkpoint: Path, *, free: bool = True) -> Case:
    argv = ("export", str(checkpoint), str(folder / "made"))
    return Case(format=format, what=what, argv=argv, free=free, folder=folder)


def config(bases: Bases, folder: Path, rng: random.Random) -> Case:
    source = rng.choice((bases.checkpoint, bases.checkpoint, bases.folder / "published" / "model"))
    checkpoint = copy_tree(source, folder / "checkpoint")
    path = rng.choice([checkpoint / "config.json", *checkpoint.glob("codec/config.json")])
    what, document = damage_document(json.loads(path.read_bytes()), rng)
    content = json.dumps(document).encode()
    if rng.random() < 0.2:
        what, content = damage_text(path.read_bytes(), rng)
    put(path, content)
    return _export(folder, "checkpoint", what, checkpoint)


def weights(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A non-finite number in any tensor; the export must refuse it."""
    checkpoint = copy_tree(bases.checkpoint, folder / "checkpoint")
    path = rng.choice([checkpoint / "model.safetensors", checkpoint / "codec" / "model.safetensors"])
    content = bytearray(path.read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    place = 8 + length + begin + 4 * rng.randrange((end - begin) // 4)
    struct.pack_into("<f", content, place, rng.choice((float("nan"), float("inf"), float("-inf"))))
    put(path, bytes(content))
    return _export(folder, "checkpoint", f"no number in {name}", checkpoint, free=False)


def tensors(bases: Bases, folder: Path, rng: random.Random) -> Case:
    checkpoint = copy_tree(bases.checkpoint, folder / "checkpoint")
    path = rng.choice(sorted(checkpoint.rglob("*.safetensors")))
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.7:
        what, document = damage_document(json.loads(content[8 : 8 + length]), rng)
        text = json.dumps(document).encode()
    else:
        what, text = damage_text(content[8 : 8 + length], rng)
    put(path, struct.pack("<Q", len(text)) + text + content[8 + length :])
    return _export(folder, "checkpoint", f"{path.name}: {what}", checkpoint)


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "checkpoint": (config, 8), "checkpoint weights": (weights, 4), "checkpoint tensors": (tensors, 4),
}  # fmt: skip
