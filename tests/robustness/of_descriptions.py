"""Descriptions beside a bundle's graphs, with hashes updated: front end, its tables, codec, engines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.robustness.bases import CLONED, MANIFEST, MUSIC, Bases, copy_tree, put, rehash
from tests.robustness.cases import Case, Mutator
from tests.robustness.spoken import FREE_SETTINGS, is_free, speak
from tests.robustness.values import WRONG_NUMBERS, damage_document, damage_text

_FREE_FRONTEND = (
    ("abbreviations",), ("music",), ("frame_rate_hz",), ("origin",), ("default_voice",), ("max_frames",),
    ("max_characters",), ("tokens",),
)  # fmt: skip


def frontend(bases: Bases, folder: Path, rng: random.Random) -> Case:
    published = rng.random() < 0.3
    bundle = copy_tree(bases.published if published else bases.bundle, folder / "bundle")
    path = bundle / "frontend" / "frontend.json"
    what, document = damage_document(json.loads(path.read_bytes()), rng)
    content, free = json.dumps(document).encode(), published or is_free(what, _FREE_FRONTEND)
    if rng.random() < 0.2:
        what, content = damage_text(path.read_bytes(), rng)
        free = what.startswith("bit")
    put(path, content)
    rehash(bundle, "frontend/frontend.json")
    request = ("--voice", "ann", *CLONED[:2], *CLONED[4:]) if published else ()
    return speak(bundle, folder, rng, "front end", what, free=free, request=request)


def tables(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """Lexicon, rules and durations."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    path = rng.choice(sorted((bundle / "frontend").glob("*.tsv")))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    match rng.randrange(5):
        case 0:
            what = "without a line"
            lines.pop(rng.randrange(len(lines)))
        case 1:
            what = "without lines"
            lines = lines[: rng.randrange(len(lines))]
        case 2:
            what, at = "another number", rng.randrange(len(lines))
            cells = lines[at].rstrip("\n").split("\t")
            cells[-1] = str(rng.choice(WRONG_NUMBERS))
            lines[at] = "\t".join(cells) + "\n"
        case 3:
            what, at = "a phoneme that is none", rng.randrange(len(lines))
            cells = lines[at].rstrip("\n").split("\t")
            cells[rng.randrange(len(cells))] = rng.choice(("qq", "", " ", "pau", "\u2028", "é" * 400))
            lines[at] = "\t".join(cells) + "\n"
        case _:
            what, content = damage_text(path.read_bytes(), rng)
            put(path, content)
            rehash(bundle, path.relative_to(bundle).as_posix())
            return speak(bundle, folder, rng, "front end", f"{path.name}: {what}", free=True)
    put(path, "".join(lines).encode())
    rehash(bundle, path.relative_to(bundle).as_posix())
    return speak(bundle, folder, rng, "front end", f"{path.name}: {what}", free=True)


def codec(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """The codec's description in its folder."""
    bundle = copy_tree(rng.choice((bases.bundle, bases.bundle, bases.published)), folder / "bundle")
    document: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())
    what, damaged = damage_document({"codec": document["codec"]}, rng)
    put(bundle / MANIFEST, json.dumps({**document, **damaged}).encode())
    request: tuple[str, ...] = ()
    if bundle.exists() and document["codec"]["kind"] == "dac":
        request = ("--voice", str(bases.recording), *CLONED)
    return speak(bundle, folder, rng, "codec", what, free=is_free(what, FREE_SETTINGS), request=request)


def engines(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """engines.json and the files beside it, opened without the library that runs them."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    home = bundle / "engines" / "sm86"
    home.mkdir(parents=True)
    document = engine_description(json.loads((bundle / MANIFEST).read_bytes()))
    what, damaged = damage_document(document, rng)
    content = json.dumps(damaged).encode()
    if rng.random() < 0.3:
        what, content = damage_text(json.dumps(document).encode(), rng)
    (home / "engines.json").write_bytes(content)
    argv = rng.choice(
        (("inspect", str(bundle)),
         ("synth", str(bundle), *MUSIC, "--backend", "tensorrt", "-o", str(folder / "out.wav")))
    )  # fmt: skip
    return Case(format="engines", what=what, argv=argv, free=True, folder=folder)


def engine_description(manifest: dict[str, Any]) -> dict[str, Any]:
    record = {
        "graph": "head", "file": "head.engine", "log": "head.log", "bytes": 10, "sha256": "0" * 64,
        "source_sha256": "0" * 64, "recipe_sha256": "0" * 64, "precision": "float32", "seconds": 1.0,
        "profile": {"hidden_NC": [[1, 16], [2, 16], [64, 16]]}, "cache_capacity": None, "weight_bytes": None,
        "scratch_bytes": None, "fallbacks": [],
    }  # fmt: skip
    return {
        "version": 1, "target": "sm86", "flavour": "tensorrt-rtx", "engine_version": "1.7.0", "capabilities": ["8.6"],
        "precisions": ["float32"], "max_rows": 2, "max_positions": 64, "cache_capacities": [256], "unbuilt": {},
        "engines": {name: {**record, "graph": name} for name in manifest["graphs"]},
    }  # fmt: skip


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "front end": (frontend, 8), "tables": (tables, 5), "codec": (codec, 8), "engines": (engines, 5),
}  # fmt: skip
