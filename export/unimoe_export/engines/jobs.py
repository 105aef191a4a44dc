"""The jobs of a build: a bundle's graphs, each with its recipe and the hashes that show whether it is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from unimoe_runtime.bundle.engine_sets import EngineRecord, engine_key, source_sha256
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs

from .compiling import RECIPE, Recipe
from .sizes import Limits, graph_sizes

Capabilities = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One engine to build. `file` and `log` are relative to the set's folder."""

    graph: str
    cache_capacity: int | None
    file: str
    log: str
    recipe: Recipe
    source_sha256: str
    recipe_sha256: str

    @property
    def key(self) -> str:
        return engine_key(self.graph, self.cache_capacity)

    def is_done_by(self, record: EngineRecord | None) -> bool:
        """Whether an earlier build's record is of the same graph and recipe."""
        return record is not None and (record.source_sha256, record.recipe_sha256, record.file) == (
            self.source_sha256, self.recipe_sha256, self.file,
        )  # fmt: skip


def list_jobs(bundle: Bundle, capabilities: Capabilities, limits: Limits, toolkit: str) -> Iterator[Job]:
    """A job for every graph; a trunk has one for each capacity of the cache. `toolkit`: flavour and version.

    Graphs of the codec that a pack left out get none. Raises BundleError where a pack lacks a graph that every step
    needs.
    """
    needed = set(language_model_graphs(bundle.model))
    for graph, info in bundle.graphs.items():
        if graph not in needed and info.file in bundle.left_out:
            continue
        is_trunk = graph.endswith(".trunk")
        for capacity in limits.cache_capacities if is_trunk else (None,):
            recipe = Recipe(
                capabilities=capabilities,
                sizes=graph_sizes(bundle, graph, limits, capacity),
                attention=attention_type(info.precision, capabilities),
            )
            stem = info.file.removesuffix(".onnx") + ("" if capacity is None else f"_{capacity}")
            yield Job(
                graph=graph,
                cache_capacity=capacity,
                file=f"{stem}.engine",
                log=f"{stem}.log",
                recipe=recipe,
                source_sha256=source_sha256(bundle, graph),
                recipe_sha256=_sha256(recipe, toolkit),
            )


def attention_type(precision: str, capabilities: Capabilities) -> str:
    """The type that attention is computed in: 16 bits, except for graphs that are float32 throughout. Turing has no
    float32 product of two activations."""
    if precision == "bfloat16":
        return "bfloat16"
    return "float32" if precision == "float32" and (7, 5) not in capabilities else "float16"


def _sha256(recipe: Recipe, toolkit: str) -> str:
    described = json.dumps({"recipe": RECIPE, "toolkit": toolkit, **asdict(recipe)}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()
