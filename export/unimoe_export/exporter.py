"""From a checkpoint to a bundle: weights, graphs, codec, front end, manifest.

Everything streams: weights go from the checkpoint's memory map to their file tensor by tensor, a graph is a few
kilobytes, and a check holds the weights of one graph.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle import EMBEDDINGS, language_model_graphs
from unimoe_runtime.bundle_writer import BundleWriter
from unimoe_runtime.checkpoint import Checkpoint, open_checkpoint
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.tensorfile import TensorFile

from .checking import check_codec_graph, check_graph, engine_available
from .graphs.builder import OPSET, GraphBuilder
from .graphs.codec import write_codec
from .graphs.expert import expert_graph
from .graphs.head import head_graph
from .graphs.trunk import trunk_graph
from .layout import write_embeddings, write_graph_weights

Progress = Callable[[int, int, str], None]
"""Called before each part is written, with its index, the number of parts, and its name."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export wrote. `largest_error` is the graphs' largest relative deviation from the numpy oracle; None
    where no engine is installed to run them."""

    path: Path
    num_graphs: int
    num_bytes: int
    seconds: float
    largest_error: float | None


def export_bundle(
    checkpoint_dir: Path | str, bundle_dir: Path | str, *, replace: bool = False, progress: Progress | None = None
) -> ExportResult:
    """Write the bundle of a checkpoint folder, ours or a published one. An existing bundle needs `replace`.

    Raises CheckpointError, GraphError where a graph does not compute the checkpoint, and OutputError where the
    bundle cannot be written; nothing is left behind under the bundle's name then.
    """
    start = time.perf_counter()
    checkpoint = open_checkpoint(checkpoint_dir)
    target = Path(bundle_dir)
    report: Progress = progress or (lambda index, count, name: None)
    names = list(language_model_graphs(checkpoint.model))
    has_codec, has_frontend = checkpoint.codec_dir is not None, checkpoint.frontend_dir is not None
    parts = [*names, "embeddings", *["codec"] * has_codec, *["front end"] * has_frontend, "manifest"]
    runs = engine_available()
    largest_error = 0.0
    codec: Mapping[str, Any] | None = None
    with BundleWriter(target, replace=replace) as writer:
        for index, part in enumerate(parts):
            report(index, len(parts), part)
            match part:
                case "embeddings":
                    write_embeddings(writer.directory / EMBEDDINGS, checkpoint)
                    writer.add_file(EMBEDDINGS)
                case "codec":
                    codec, error = _write_codec(writer, checkpoint, check=runs)
                    largest_error = max(largest_error, error)
                case "front end":
                    _copy_frontend(writer, checkpoint)
                case "manifest":
                    writer.finish(
                        model=checkpoint.model,
                        sampling=checkpoint.sampling,
                        codec=codec,
                        provenance=_provenance(checkpoint),
                        opset=OPSET,
                    )
                case graph:
                    path = _write_graph(writer, checkpoint, graph)
                    if runs:
                        weights = TensorFile(path.with_suffix(".safetensors"))
                        largest_error = max(largest_error, check_graph(path, graph, checkpoint.model, weights))
    report(len(parts), len(parts), "done")
    return ExportResult(
        path=target,
        num_graphs=len(names) + 2 * has_codec,
        num_bytes=sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        seconds=time.perf_counter() - start,
        largest_error=largest_error if runs else None,
    )


def build_graph(name: str, config: ModelConfig, weights: Path) -> GraphBuilder:
    """The graph of that name in a bundle, over its written weights."""
    match name.split("."):
        case ["layers", _, "trunk"]:
            return trunk_graph(config, weights)
        case ["layers", _, "expert", _]:
            return expert_graph(config, weights)
    return head_graph(config, weights)


def graph_stem(name: str) -> str:
    """A graph's path in the bundle, without a suffix: layers.3.expert.1 is layers/03/expert_1."""
    match name.split("."):
        case ["layers", layer, *rest]:
            return f"layers/{int(layer):02d}/{'_'.join(rest)}"
    return name


def _write_graph(writer: BundleWriter, checkpoint: Checkpoint, name: str) -> Path:
    stem = graph_stem(name)
    path = writer.directory / f"{stem}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = path.with_suffix(".safetensors")
    write_graph_weights(weights, checkpoint, name)
    builder = build_graph(name, checkpoint.model, weights)
    builder.save(path)
    writer.add_graph(
        name,
        file=f"{stem}.onnx",
        weights=f"{stem}.safetensors",
        inputs=builder.inputs,
        outputs=builder.outputs,
    )
    return path


def _write_codec(writer: BundleWriter, checkpoint: Checkpoint, *, check: bool) -> tuple[Mapping[str, Any], float]:
    """Write the codec's graphs. Returns the manifest's description and the largest deviation from the oracle."""
    assert checkpoint.codec_dir is not None
    model = checkpoint.model
    graphs = write_codec(checkpoint.codec_dir, writer.directory, model.num_codebooks)
    if graphs.codebook_size != model.codebook_size:
        raise CheckpointError(
            f"{checkpoint.codec_dir}: the codec has {graphs.codebook_size} codes a codebook, "
            f"the model speaks {model.codebook_size}"
        )
    description, largest_error = graphs.manifest(), 0.0
    for graph in (graphs.encoder, graphs.decoder):
        writer.add_graph(graph.name, file=graph.file, weights=graph.weights, inputs=graph.inputs, outputs=graph.outputs)
        if check:
            weights = TensorFile(writer.directory / graph.weights)
            error = check_codec_graph(writer.directory / graph.file, graph, description, weights)
            largest_error = max(largest_error, error or 0.0)
    return description, largest_error


def _copy_frontend(writer: BundleWriter, checkpoint: Checkpoint) -> None:
    assert checkpoint.frontend_dir is not None
    for source in sorted(checkpoint.frontend_dir.rglob("*")):
        if source.is_file():
            file = f"frontend/{source.relative_to(checkpoint.frontend_dir).as_posix()}"
            target = writer.directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            writer.add_file(file)


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        exporter = version("unimoe")
    except PackageNotFoundError:
        exporter = "unknown"
    return {**checkpoint.provenance, "checkpoint": checkpoint.path.resolve().name, "exporter": f"unimoe {exporter}"}
