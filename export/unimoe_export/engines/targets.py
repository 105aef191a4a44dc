"""Targets of engines: rows of the table, with their flavour of TensorRT and the precisions it has there."""

from __future__ import annotations

from dataclasses import dataclass

from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.errors import EngineError
from unimoe_runtime.hardware.targets import find_target

from .jobs import Capabilities

# From the manifest's name of a graph's precision to the precision that the target must multiply in, where they differ.
_NEEDED = {"int8-weights": "int8", "int4-weights": "int4"}


@dataclass(frozen=True, kw_only=True)
class BuildTarget:
    """The target of a set of engines: one GPU, or several with the same engines ("sm86+sm89")."""

    name: str
    flavour: str
    capabilities: Capabilities
    precisions: tuple[str, ...]


def build_target(name: str, flavour: str | None = None) -> BuildTarget:
    """The target of that name, or of several names joined by "+". Raises ConfigError, EngineError."""
    targets = [find_target(one) for one in name.split("+")]
    for target in targets:
        if target.compute_capability is None:
            raise EngineError(f"target {target.name} ({target.title}) runs the bundle as it is: nothing to build")
    chosen = flavour or ("tensorrt" if any(one.flavour == "tensorrt" for one in targets) else "tensorrt-rtx")
    first, *others = (target.engine_precisions(chosen) for target in targets)
    return BuildTarget(
        name=name,
        flavour=chosen,
        capabilities=tuple(sorted({one.compute_capability for one in targets if one.compute_capability})),
        precisions=tuple(one for one in first if all(one in other for other in others)),
    )


def require_precisions(bundle: Bundle, target: BuildTarget) -> None:
    """Raises EngineError for a graph in a precision that the target lacks, or in weights quantized for a CPU."""
    lacking: dict[str, str] = {}
    record = bundle.manifest.get("quantization")
    is_for_cpu = isinstance(record, dict) and record.get("target") == "cpu"
    for graph in language_model_graphs(bundle.model):
        for part in bundle.graphs[graph].precision.split("+"):
            if part in _NEEDED and is_for_cpu:
                raise EngineError(
                    f"{bundle.path}: {graph} is {part} as a CPU reads it, which {target.flavour} cannot build; "
                    f"`unimoe calibrate FLOAT32 OUT --target {target.name}` quantizes for this target"
                )
            if _NEEDED.get(part, part) not in target.precisions:
                lacking.setdefault(part, graph)
    if lacking:
        names = ", ".join(f"{part} ({graph})" for part, graph in lacking.items())
        raise EngineError(
            f"{bundle.path}: target {target.name} with {target.flavour} has no {names}; it has "
            f"{', '.join(target.precisions)}: export or calibrate a bundle in one of these"
        )
