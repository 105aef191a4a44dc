"""Writing the quantized bundle: new graphs and weights of the language model, everything else copied."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.writer import BundleParts, BundleWriter
from unimoe_runtime.errors import BundleError

from .gathering import Progress
from .graphs import GraphSurgery
from .schemes import QuantizationPlan
from .smoothing import fold
from .weights import Floats

_WRITTEN = ("format", "format_version", "opset", "model", "sampling", "codec", "provenance", "graphs", "files")


def require_float(bundle: Bundle) -> None:
    """Raises BundleError for a bundle whose language model is not in float32 throughout."""
    for graph in language_model_graphs(bundle.model):
        precision = bundle.graphs[graph].precision
        if precision != "float32":
            made = "is quantized already" if "quantization" in bundle.manifest else f"is a {precision} bundle"
            raise BundleError(f"{bundle.path}: {made}; calibrate the float32 bundle it was made from")


def write_quantized(
    bundle: Bundle,
    out: Path | Reservation,
    plan: QuantizationPlan,
    record: Mapping[str, Any],
    *,
    sections: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `bundle` to `out`, quantized by `plan`; `record` becomes the manifest's section "quantization", beside
    `sections` and those that `bundle` has.

    Graphs keep their names, inputs and outputs. A killed run resumes. Memory holds the weights of one graph. Raises
    BundleError for a bundle that is not float32, OutputError where the result cannot be written.
    """
    require_float(bundle)
    graphs = list(language_model_graphs(bundle.model))
    with BundleWriter(out, fingerprint=_fingerprint(bundle, plan)) as writer:
        for index, graph in enumerate(graphs):
            if progress is not None:
                progress(graph, index, len(graphs))
            if writer.resume(graph) is None:
                _write_graph(writer, bundle, graph, plan)
                writer.commit(graph)
        _copy_rest(writer, bundle, graphs)
        carried = {name: section for name, section in bundle.manifest.items() if name not in _WRITTEN}
        writer.finish(
            BundleParts(
                model=bundle.model,
                sampling=bundle.sampling,
                codec=bundle.codec,
                provenance=bundle.manifest["provenance"],
                opset=bundle.manifest["opset"],
                format_version=bundle.format_version,
                sections={**carried, **(sections or {}), "quantization": dict(record)},
            )
        )


def read_weights(bundle: Bundle, graph: str) -> dict[str, Floats]:
    """A graph's float32 weights, copied from their file."""
    file = bundle.weights(graph)
    return {name: file.read(name) for name in file.entries}


def _write_graph(writer: BundleWriter, bundle: Bundle, graph: str, plan: QuantizationPlan) -> None:
    info = bundle.graph(graph)
    surgery = GraphSurgery(bundle.path / info.file)
    weights = fold(graph, read_weights(bundle, graph), plan.smoothing, bundle)
    surgery.quantize(weights, plan.of_graph(graph), plan.engine, arbitrary=plan.arbitrary_codes)
    path = writer.directory / info.file
    weights_info = surgery.save(path)
    weights_file = Path(info.file).with_suffix(".safetensors").as_posix()
    writer.add_graph(graph, replace(info, weights=weights_file, precision=plan.precision(graph)), weights_info)


def _copy_rest(writer: BundleWriter, bundle: Bundle, graphs: list[str]) -> None:
    """Copy the codec, the front end, the embeddings and everything else."""
    replaced = {file for graph in graphs for file in (bundle.graphs[graph].file, bundle.graphs[graph].weights)}
    for file, info in bundle.files.items():
        if file not in replaced:
            target = writer.directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.checked(file), target)
            writer.add_file(file, info)
    for name, graph in bundle.graphs.items():
        if name not in graphs:
            writer.add_graph(name, graph, bundle.files[graph.weights])


def _fingerprint(bundle: Bundle, plan: QuantizationPlan) -> str:
    """A hash of everything that decides the graphs: the source's files and the plan."""
    digest = hashlib.sha256(json.dumps({file: info.sha256 for file, info in bundle.files.items()}).encode())
    for linear, one in plan.linears.items():
        digest.update(f"{linear} {one} {plan.engine} {plan.arbitrary_codes}".encode())
    for linear, factors in plan.smoothing.items():
        digest.update(str(linear).encode() + np.ascontiguousarray(factors).tobytes())
    return digest.hexdigest()
