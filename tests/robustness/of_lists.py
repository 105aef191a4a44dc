"""Lists and recipes: calibration lines, tables of targets, recipes."""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import Any

from tests.robustness.bases import Bases
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_document, damage_text

_LINES = (
    {"task": "speech", "text": "hello the cat", "voice": "ann"},
    {"task": "music", "text": "flute, 120 bpm: C4 E4", "codes": [[1, 2, 3]] * 8},
)


def calibration(bases: Bases, folder: Path, rng: random.Random) -> Case:
    lines = [json.dumps(line) for line in _LINES]
    if rng.random() < 0.7:
        what, document = damage_document([dict(line) for line in _LINES], rng)
        lines = [json.dumps(line) for line in document]
        content = "\n".join(lines).encode()
    else:
        what, content = damage_text("\n".join(lines).encode(), rng)
    path = folder / "list.jsonl"
    path.write_bytes(content)
    argv = ("calibrate", str(bases.bundle), str(folder / "made"), "--data", str(path), "--floor", "1", "--cache",
            str(folder / "cache"))  # fmt: skip
    return Case(format="calibration", what=what, argv=argv, free=True, folder=folder)


def recipe(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """The recipe is only checked; a valid one is not run."""
    source = rng.choice(bases.recipes)
    content = source.read_bytes()
    if rng.random() < 0.7:
        what, document = damage_document(tomllib.loads(content.decode()), rng)
        content = to_toml(document).encode("utf-8", "replace")
    else:
        what, content = damage_text(content, rng)
    path = folder / "recipe.toml"
    path.write_bytes(content)
    argv = ("train", "check", str(path))
    return Case(format="recipes", what=f"{source.name}: {what}", argv=argv, free=True, folder=folder)


def to_toml(document: dict[str, Any]) -> str:
    """TOML of sections of values. A value that TOML cannot express makes the file invalid."""

    def value(one: Any) -> str:
        if isinstance(one, dict):
            return "{" + ", ".join(f"{json.dumps(name)} = {value(item)}" for name, item in one.items()) + "}"
        if isinstance(one, list):
            return "[" + ", ".join(map(value, one)) + "]"
        return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(text := json.dumps(one), text)

    return "\n".join(f"{json.dumps(name)} = {value(one)}" for name, one in document.items())


MUTATORS: dict[str, tuple[Mutator, int]] = {"calibration": (calibration, 6), "recipes": (recipe, 6)}
