"""Records which sections made a working folder's products, so that a changed recipe does not use old products."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.json import read_json

_RECORD = "made_from.json"


class Products:
    """The record of one working folder: for each product, a hash of the sections that made it."""

    def __init__(self, work: Path) -> None:
        self._path = work / _RECORD
        self._known: dict[str, Any] = read_json(self._path, ConfigError) if self._path.exists() else {}

    def require(self, product: Path, made_from: Mapping[str, Any]) -> None:
        """Raise ConfigError where a product exists that other sections made. A missing product, or one of a release
        that kept no record, counts as made from these sections."""
        name, found = product.name, _hash(made_from)
        if product.exists() and self._known.get(name, found) != found:
            sections = " and ".join(f"[{section}]" for section in made_from)
            raise ConfigError(
                f"{product} was made from another {sections} than the recipe has now; remove it, or train with --work "
                "in another folder"
            )
        if self._known.get(name) != found:
            self._known[name] = found
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._known, indent=1) + "\n")


def _hash(made_from: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()
