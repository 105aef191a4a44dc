"""Requests to a server: bodies, headers and paths that no client of good will sends."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.robustness.bases import Bases
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_document, damage_text

REQUEST = "@request"
"""The first argument of a case that the worker sends to its server: method, path, content type, file of the body."""
_SPEECH = {"model": "tiny", "input": "Hello.", "voice": "ann", "response_format": "wav", "speed": 1.0, "seed": 3,
           "stream_format": "audio", "instructions": "", "max_steps": 30}  # fmt: skip
_MUSIC = {"model": "tiny", "input": "flute, 120 bpm: C4 E4", "response_format": "flac", "seed": 3}
_TYPES = ("application/json", "application/json; charset=utf-16", "text/plain", "multipart/form-data", "",
          "multipart/form-data; boundary=" + "x" * 300, "application/x-www-form-urlencoded")  # fmt: skip


def request(bases: Bases, folder: Path, rng: random.Random) -> Case:
    method, path = "POST", rng.choice(("/v1/audio/speech", "/v1/audio/speech", "/v1/audio/music", "/v1/audio/voices"))
    body: dict[str, Any] = dict(_MUSIC if path.endswith("music") else _SPEECH)
    content_type = _TYPES[0]
    match rng.randrange(6):
        case 0 | 1 | 2:
            what, document = damage_document(body, rng)
            content = json.dumps(document).encode()
        case 3:
            what, content = damage_text(json.dumps(body).encode(), rng)
        case 4:
            content_type = rng.choice(_TYPES)
            what, content = f"type {content_type[:40]!r}", json.dumps(body).encode()
        case _:
            method = rng.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))
            path = rng.choice(
                (
                    "/", "/v1", "/v1/models", "/v1/models/../..", "/v1/audio/voices/%2e%2e%2f", "/health", "/metrics",
                    "/" + "a" * 5000, "/%00", "/v1/audio/voices/x%0a", "//", "/v1/models?%",
                )
            )  # fmt: skip
            what, content = f"{method} {path[:40]}", b""
    (folder / "body").write_bytes(content)
    argv = (REQUEST, str(bases.bundle), method, path, content_type, str(folder / "body"))
    return Case(format="requests", what=f"{path}: {what}", argv=argv, free=True, folder=folder)


MUTATORS: dict[str, tuple[Mutator, int]] = {"requests": (request, 8)}
