"""The records in engines.json: an engine set, and each of its engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from unimoe_runtime.records import Between, JsonRecord, Length, require

Name = Annotated[str, Length(1, 1024)]
Hash = Annotated[str, Length(0, 64)]
Count = Annotated[int, Between(1, 1 << 24)]
Shape = Annotated[tuple[Annotated[int, Between(0, 1 << 32)], ...], Length(0, 8)]
_Capability = Annotated[str, Length(3, 8)]


@dataclass(frozen=True, kw_only=True)
class EngineRecord(JsonRecord):
    """One engine. `file` and `log` are relative to the set's folder.

    `source_sha256` covers the graph and its weights, `recipe_sha256` all settings of the build.
    `profile`: for each input with a varying dimension, the smallest, the usual and the largest shape. Other inputs
    have the bundle's shape (and the capacity for S). `weight_bytes` and `scratch_bytes` come from the builder's log;
    None if it does not give them.
    """

    graph: Name
    file: Name
    log: Name
    bytes: Annotated[int, Between(0, 1 << 50)]
    sha256: Hash
    source_sha256: Hash
    recipe_sha256: Hash
    precision: Name
    seconds: Annotated[float, Between(0, 1e9)]
    profile: Annotated[Mapping[str, tuple[Shape, Shape, Shape]], Length(0, 4096)]
    cache_capacity: Count | None = None
    weight_bytes: Annotated[int, Between(0, 1 << 50)] | None = None
    scratch_bytes: Annotated[int, Between(0, 1 << 50)] | None = None
    fallbacks: Annotated[tuple[str, ...], Length(0, 1 << 16)] = ()

    def takes(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether inputs of these shapes, by name, lie within the profile."""
        return all(
            len(shape) == len(smallest)
            and all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))
            for name, shape in shapes.items()
            if name in self.profile
            for smallest, _, largest in [self.profile[name]]
        )


@dataclass(frozen=True, kw_only=True)
class SetDescription(JsonRecord):
    """The content of engines.json."""

    version: Literal[1]
    target: Name
    flavour: Literal["tensorrt-rtx", "tensorrt"]
    engine_version: Name
    capabilities: Annotated[tuple[_Capability, ...], Length(1, 64)]
    precisions: tuple[Name, ...] = ()
    max_rows: Count
    max_positions: Count
    cache_capacities: Annotated[tuple[Count, ...], Length(1, 64)]
    unbuilt: Mapping[str, str]
    engines: Mapping[str, EngineRecord]

    def check_together(self) -> None:
        for text in self.capabilities:
            require(re.fullmatch(r"\d{1,3}\.\d{1,2}", text) is not None, "capabilities", text, 'written as "8.6"')
