"""Compiling one graph into one engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from unimoe_runtime.bundle.reader import GraphInfo

from .flavours import Toolkit
from .rewriting import convolve_products, fix_dimensions, lift_caches, lifted_shape, narrow_attention

# Increment this when the same graph, profile and TensorRT give a different engine than before.
RECIPE = 1
TIMING_CACHE = ".timing_cache"
Shape = tuple[int, ...]


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


def compile_graph(toolkit: Toolkit, path: Path, info: GraphInfo, recipe: Recipe, timing_cache: Path) -> Compiled:
    """Build the graph at `path`; its weights lie beside it."""
    toolkit.log.lines.clear()
    builder = toolkit.trt.Builder(toolkit.log)
    network = toolkit.create_network(builder)
    parser = toolkit.trt.OnnxParser(network, toolkit.log)
    model = rewritten(path, recipe)
    plan, problem = None, None
    # The parser looks for weights beside this path, which need not be the parsed file.
    if not parser.parse(model.SerializeToString(), str(path)):
        problem = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
    else:
        config = configuration(toolkit, builder, recipe, recipe.profile(info), timing_cache)
        _decompose_attention(toolkit.trt, network)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            problem = _last_error(toolkit.log.lines)
        else:
            toolkit.keep_timings(config, timing_cache)
    return Compiled(plan=plan, problem=problem, log=tuple(toolkit.log.lines))


def configuration(
    toolkit: Toolkit,
    builder: Any,
    recipe: Recipe,
    profile: Mapping[str, tuple[Shape, Shape, Shape]],
    timing_cache: Path,
) -> Any:
    trt = toolkit.trt
    config = builder.create_builder_config()
    toolkit.aim(config, recipe.capabilities, timing_cache)
    config.clear_flag(trt.BuilderFlag.TF32)  # the router needs full float32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0  # the host loop has one stream
    # One profile: a second one enlarges an expert's engine by the size of its weights.
    shapes = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        shapes.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(shapes)
    return config


def _decompose_attention(trt: Any, network: Any) -> None:
    """Allow attention without a fused kernel, because float32 has none."""
    kind = trt.LayerType.__members__.get("ATTENTION_INPUT")
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _last_error(lines: list[tuple[str, str]]) -> str:
    errors = [text for severity, text in lines if severity in ("ERROR", "INTERNAL_ERROR")]
    return errors[-1].splitlines()[0] if errors else "no engine, and no reason in the log"
