"""Values that our writers never write, and their possible places in a JSON document."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

WRONG_TYPES: tuple[Any, ...] = (None, True, "", "7", "x", [], {}, [[]], {"a": {}}, [None], "\u2028", "é" * 300)
WRONG_NUMBERS: tuple[Any, ...] = (
    -1, -5, -(2**31), -(2**63), 2**31, 2**53, 10**12, 2**62, 2**63, 10**40, -1e9, 1e308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
Place = tuple[Any, ...]


def places(document: Any, prefix: Place = ()) -> Iterator[Place]:
    """The path of every value in a document, without the document itself."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from places(value, (*prefix, key))


def value_at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


def changed(document: Any, place: Place, value: Any) -> Any:
    """A copy of a document with one value replaced."""
    copied = copy.deepcopy(document)
    value_at(copied, place[:-1])[place[-1]] = value
    return copied


def removed(document: Any, place: Place) -> Any:
    copied = copy.deepcopy(document)
    del value_at(copied, place[:-1])[place[-1]]
    return copied


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def damage_document(document: Any, rng: random.Random, spared: tuple[Place, ...] = ()) -> tuple[str, Any]:
    """Describe the damage and return the damaged document. Places below `spared` stay: any value is allowed there."""
    known = [place for place in places(document) if not any(place[: len(one)] == one for one in spared)]
    # Short paths are few and would rarely be drawn among the many long ones.
    length = rng.choice(sorted({len(place) for place in known}))
    place = rng.choice([one for one in known if len(one) == length])
    name = ".".join(map(str, place))
    match rng.choice(("remove", "type", "number", "number", "rename", "wrap")):
        case "remove":
            return f"without {name}", removed(document, place)
        case "type":
            value = rng.choice(WRONG_TYPES)
            return f"{name} = {json.dumps(value)[:40]}", changed(document, place, value)
        case "number":
            value = rng.choice(WRONG_NUMBERS)
            return f"{name} = {value!r}"[:80], changed(document, place, value)
        case "rename":
            return f"{name} renamed", changed(removed(document, place), (*place[:-1], f"{place[-1]}x"), 1) if (
                isinstance(place[-1], str)
            ) else (f"{name} twice", changed(document, place, [value_at(document, place)] * 2))[1]
        case _:
            return f"{name} wrapped", changed(document, place, [value_at(document, place)])


def damage_text(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage to a text file as a whole."""
    text = content.decode("utf-8", "replace")
    match rng.choice(
        ("cut", "utf16", "utf16 without mark", "latin", "nul", "nesting", "nesting", "flip", "long", "empty")
    ):
        case "cut":
            return "cut off", content[: rng.randrange(max(1, len(content) - 4))]
        case "utf16":
            return "UTF-16", text.encode("utf-16")
        case "utf16 without mark":
            return "UTF-16 without a mark", text.encode("utf-16-le")
        case "latin":
            return "Latin-1", content + "é".encode("latin-1")
        case "nul":
            at = rng.randrange(len(content) + 1)
            return "zero bytes", content[:at] + b"\0\0" + content[at:]
        case "nesting":
            depth = rng.choice((900, 5_000, 100_000, 1_000_000))
            return f"nested {depth} deep", nested(depth, *rng.choice((("[", "]"), ('{"a":', "}")))).encode()
        case "flip":
            at = rng.randrange(len(content))
            flipped = content[at] ^ (1 << rng.randrange(8))
            return f"bit of byte {at}", content[:at] + bytes([flipped]) + content[at + 1 :]
        case "long":
            return "a long list", b"[" + b"[]," * 3_000_000 + b"[]]"
        case _:
            return "empty", b""
