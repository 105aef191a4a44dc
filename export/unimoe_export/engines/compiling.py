"""Compiling one graph into one engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from unimoe_runtime.bundle.reader import GraphInfo
from unimoe_runtime.errors import EngineError

from .flavours import Shape, Toolkit
from .rewriting import convolve_products, fix_dimensions, lift_caches, lifted_shape, narrow_attention

# Increment this when the same graph, profile and TensorRT give a different engine than before.
RECIPE = 1
TIMING_CACHE = ".timing_cache"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a graph is built. `sizes`: smallest, usual and largest size of each symbolic dimension; three equal sizes
    make it fixed. `attention`: the type that attention is computed in."""

    capabilities: tuple[tuple[int, int], ...]
    sizes: Mapping[str, tuple[int, int, int]]
    attention: str

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Recipe:
        """A recipe from the output of `dataclasses.asdict` after JSON."""
        return cls(
            capabilities=tuple((major, minor) for major, minor in described["capabilities"]),
            sizes={name: (low, usual, high) for name, (low, usual, high) in described["sizes"].items()},
            attention=described["attention"],
        )

    def profile(self, info: GraphInfo) -> dict[str, tuple[Shape, Shape, Shape]]:
        """Smallest, usual and largest shape of each input that varies."""
        shapes = {}
        for value in info.inputs:
            ranges = [self.sizes[size] if isinstance(size, str) else (size,) * 3 for size in value.shape]
            if any(one[0] != one[2] for one in ranges):
                smallest, usual, largest = zip(*ranges, strict=True)
                smallest, usual, largest = (lifted_shape(value.name, one) for one in (smallest, usual, largest))
                shapes[value.name] = (smallest, usual, largest)
        return shapes


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """`plan`: the engine as TensorRT serializes it; None on failure, and `problem` says why. `log`: all lines with
    their severity."""

    plan: Any
    problem: str | None
    log: tuple[tuple[str, str], ...]


def rewritten(path: Path, recipe: Recipe) -> onnx.ModelProto:
    """The rewritten graph that TensorRT builds, without its weights."""
    model = onnx.load(path, load_external_data=False)
    fix_dimensions(model, {name: one for name, (one, _, largest) in recipe.sizes.items() if one == largest})
    lift_caches(model)
    if recipe.attention != "float32":
        narrow_attention(model, recipe.attention)
    if (7, 5) in recipe.capabilities:
        convolve_products(model)
    return model


@contextmanager
def stored(model: onnx.ModelProto, path: Path) -> Iterator[Path]:
    """A temporary file of a graph that was rewritten from `path`, with links to its weights beside it."""
    with tempfile.TemporaryDirectory(prefix="unimoe-build-") as folder:
        file = Path(folder) / path.name
        file.write_bytes(model.SerializeToString())
        for weights in {external_file(tensor) for tensor in model.graph.initializer} - {None}:
            link = Path(folder) / str(weights)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((path.parent / str(weights)).resolve())
        yield file


def external_file(tensor: onnx.TensorProto) -> str | None:
    """The file that holds a stored tensor, relative to its graph; None if the graph holds it."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), None)


def compile_graph(
    toolkit: Toolkit,
    path: Path,
    info: GraphInfo,
    recipe: Recipe,
    timing_cache: Path,
    adjust: Callable[[Any, Any], object] | None = None,
) -> Compiled:
    """Build the graph at `path` through Polygraphy's loaders; its weights lie beside it.

    `adjust`: changes TensorRT's builder and configuration last.
    """
    toolkit.log.lines.clear()
    plan, problem = None, None
    with stored(rewritten(path, recipe), path) as file:
        try:
            plan = toolkit.build(file, recipe.capabilities, recipe.profile(info), timing_cache, adjust)
        except EngineError as error:
            problem = _last_error(toolkit.log.lines) or str(error)
    return Compiled(plan=plan, problem=problem, log=tuple(toolkit.log.lines))


def _last_error(lines: list[tuple[str, str]]) -> str:
    errors = [text for severity, text in lines if severity in ("ERROR", "INTERNAL_ERROR")]
    # The parser puts the reason on a line below the place in its source.
    return " ".join(errors[-1].splitlines()[:2]) if errors else ""
