"""From a checkpoint to a bundle: weights, graphs, codec, front end, manifest.

Memory stays small: weights go from the checkpoint to their file tensor by tensor, a graph is a few kilobytes, and a
check holds the weights of one graph.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_export.graphs.codecs.write import write_codec
from unimoe_runtime.bundle.manifest import GraphInfo
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, EMBEDDINGS, language_model_graphs
from unimoe_runtime.bundle.writer import BundleParts, BundleWriter
from unimoe_runtime.checkpoint.folder import Checkpoint, open_checkpoint
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.hashes import sha256_of
from unimoe_runtime.files.safetensors_reader import TensorFile

from .checking import check_codec_graph, check_graph, engine_available
from .graphs.builder import OPSET, GraphBuilder
from .graphs.expert import can_overflow, expert_graph
from .graphs.head import head_graph
from .graphs.trunk import trunk_graph
from .layout import write_embeddings, write_graph_weights
from .published_codec import codec_files, find_codec
from .published_frontend import published_frontend
from .vision import write_vision

Progress = Callable[[int, int, str], None]
"""Called before each part is written, with its index, the number of parts, and its name."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The result of an export. `largest_error` is the graphs' largest relative deviation from the numpy oracle; None
    where no engine is installed to run them. `warnings` say, one line each, what the bundle cannot do and why."""

    path: Path
    num_graphs: int
    num_bytes: int
    seconds: float
    largest_error: float | None
    warnings: tuple[str, ...] = ()


def export_bundle(
    checkpoint_dir: Path | str,
    bundle_dir: Path | str,
    *,
    precision: str = "float32",
    codec: Path | str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the bundle of a checkpoint folder, ours or a published one. Overwriting a bundle requires `replace`.

    `precision` (a key of `bundle.reader.DTYPES`) is that of the language model's products and embeddings. `codec` is a
    codec folder that replaces the checkpoint's own. A second call resumes a killed export if checkpoint, codec and
    options are the same.
    Raises CheckpointError, GraphError where a graph does not compute the checkpoint's model, and OutputError where the
    bundle cannot be written. After an error no partial output remains.
    """
    start = time.perf_counter()
    checkpoint = open_checkpoint(checkpoint_dir)
    if checkpoint.model.token_drop:
        raise CheckpointError(
            f"{checkpoint.path}/config.json: token_drop is for training; a bundle gives every token the experts it "
            "picks: set it to false"
        )
    target = Path(bundle_dir)
    report: Progress = progress or (lambda index, count, name: None)
    names = list(language_model_graphs(checkpoint.model))
    codec_path = find_codec(checkpoint, codec)
    has_codec, has_frontend = codec_path is not None, bool(_frontend(checkpoint))
    has_vision = checkpoint.vision is not None
    parts = [*names, "embeddings", *["vision"] * has_vision, *["codec"] * has_codec, *["front end"] * has_frontend]
    parts += ["calibration"] * (checkpoint.path / CALIBRATION_PROMPTS).is_file()
    runs = engine_available()
    notes: dict[str, Mapping[str, Any]] = {}
    fingerprint = fingerprint_of(checkpoint, codec_path, precision, runs, target)
    with BundleWriter(target, replace=replace, fingerprint=fingerprint) as writer:
        for index, part in enumerate(parts):
            report(index, len(parts) + 1, part)
            known = writer.resume(part)
            if known is None:
                try:
                    known = _write_part(writer, checkpoint, codec_path, part, precision, check=runs)
                except OverflowError as error:
                    raise CheckpointError(
                        f"{checkpoint.path}: {part}: {error}; export with --precision bf16 or fp32"
                    ) from None
                writer.commit(part, **known)
            notes[part] = known
        report(len(parts), len(parts) + 1, "manifest")
        writer.finish(
            BundleParts(
                model=checkpoint.model,
                sampling=checkpoint.sampling,
                codec=notes["codec"]["description"] if has_codec else None,
                provenance=_provenance(checkpoint),
                opset=OPSET,
                sections={"vision": checkpoint.vision.to_dict()} if checkpoint.vision else {},
            )
        )
    report(len(parts) + 1, len(parts) + 1, "done")
    return ExportResult(
        path=target,
        num_graphs=len(names) + has_vision + 2 * has_codec,
        num_bytes=sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        seconds=time.perf_counter() - start,
        largest_error=max(note.get("error", 0.0) for note in notes.values()) if runs else None,
        warnings=tuple(_warnings(checkpoint, has_codec, has_frontend)),
    )


def _write_part(
    writer: BundleWriter, checkpoint: Checkpoint, codec: Path | None, part: str, precision: str, *, check: bool
) -> dict[str, Any]:
    """Write one part and announce its files. Returns its facts for later, as JSON: with `check`, its `error`."""
    match part:
        case "embeddings":
            writer.add_file(EMBEDDINGS, write_embeddings(writer.directory / EMBEDDINGS, checkpoint, precision))
        case "vision":
            return {"error": write_vision(writer, checkpoint, precision, check=check)}
        case "codec":
            assert codec is not None
            description, error = _write_codec(writer, checkpoint.model, codec, check=check)
            return {"description": description, "error": error}
        case "calibration":
            path = writer.directory / CALIBRATION_PROMPTS
            path.parent.mkdir(exist_ok=True)
            path.write_bytes((checkpoint.path / CALIBRATION_PROMPTS).read_bytes())
            writer.add_file(CALIBRATION_PROMPTS)
        case "front end":
            for name, content in _frontend(checkpoint).items():
                path = writer.directory / "frontend" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
                writer.add_file(f"frontend/{name}")
        case graph:
            path = _write_graph(writer, checkpoint, graph, precision)
            if check:
                weights = TensorFile(path.with_suffix(".safetensors"))
                return {"error": check_graph(path, graph, checkpoint.model, weights, precision)}
    return {}


def build_graph(name: str, config: ModelConfig, weights: Path, *, guarded: bool = True) -> GraphBuilder:
    """The graph of that name in a bundle, over its written weights. `guarded` is for experts (`expert_graph`)."""
    match name.split("."):
        case ["layers", _, "trunk"]:
            return trunk_graph(config, weights)
        case ["layers", _, "expert", _]:
            return expert_graph(config, weights, guarded=guarded)
    return head_graph(config, weights)


def _needs_guard(checkpoint: Checkpoint, name: str, weights: Path) -> bool:
    """Whether an expert could overflow. Its input is normalized: at most sqrt(C) times the norm's weights in length."""
    match name.split("."):
        case ["layers", layer, "expert", _]:
            norm_C = checkpoint.tensor(f"layers.{layer}.moe_norm.weight")
            return can_overflow(TensorFile(weights), float(np.sqrt(norm_C.size) * np.abs(norm_C).max()))
    return False


def graph_stem(name: str) -> str:
    """A graph's path in the bundle, without a suffix: layers.3.expert.1 is layers/03/expert_1."""
    match name.split("."):
        case ["layers", layer, *rest]:
            return f"layers/{int(layer):02d}/{'_'.join(rest)}"
    return name


def _write_graph(writer: BundleWriter, checkpoint: Checkpoint, name: str, precision: str) -> Path:
    stem = graph_stem(name)
    path = writer.directory / f"{stem}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = path.with_suffix(".safetensors")
    weights_info = write_graph_weights(weights, checkpoint, name, precision)
    builder = build_graph(name, checkpoint.model, weights, guarded=_needs_guard(checkpoint, name, weights))
    builder.save(path)
    graph = GraphInfo(
        file=f"{stem}.onnx",
        weights=f"{stem}.safetensors",
        precision=precision,
        inputs=tuple(builder.inputs),
        outputs=tuple(builder.outputs),
    )
    writer.add_graph(name, graph, weights_info)
    return path


def _write_codec(
    writer: BundleWriter, model: ModelConfig, codec: Path, *, check: bool
) -> tuple[Mapping[str, Any], float]:
    """Write the codec's graphs. Returns the manifest's description and the largest deviation from the oracle."""
    graphs = write_codec(codec, writer.directory, model.num_codebooks)
    if graphs.codebook_size != model.codebook_size:
        raise CheckpointError(
            f"{codec}: the codec has {graphs.codebook_size} codes a codebook, the model speaks {model.codebook_size}"
        )
    description, largest_error = graphs.manifest(), 0.0
    for graph in (graphs.encoder, graphs.decoder):
        signature = {"inputs": graph.inputs, "outputs": graph.outputs}
        writer.add_graph(
            graph.name, GraphInfo(file=graph.file, weights=graph.weights, precision="float32", **signature)
        )
        if check:
            weights = TensorFile(writer.directory / graph.weights)
            try:
                error = check_codec_graph(writer.directory / graph.file, graph, description, weights)
            except (KeyError, IndexError, ValueError) as misfit:  # the shapes of the oracle's arrays do not match
                raise CheckpointError(f"{codec}: its weights do not fit its config.json ({misfit})") from None
            largest_error = max(largest_error, error or 0.0)
    return description, largest_error


def _warnings(checkpoint: Checkpoint, has_codec: bool, has_frontend: bool) -> Iterator[str]:
    if checkpoint.public and not has_codec:
        yield "it has no codec, so no sound: export again with --codec weights_16khz.pth (of descript-audio-codec)"
    if checkpoint.public and not has_frontend:
        yield "it cannot synthesize: the folder has no tokenizer (vocab.json, merges.txt, added_tokens.json)"


def _frontend(checkpoint: Checkpoint) -> dict[str, bytes | Path]:
    """The files of the front end: their content, or the file to copy. Empty where there is none."""
    folder = checkpoint.frontend_dir
    if folder is None:
        return published_frontend(checkpoint.path) if checkpoint.public else {}
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file for file in files}


def fingerprint_of(checkpoint: Checkpoint, codec: Path | None, precision: str, checked: bool, target: Path) -> str:
    """A hash of the checkpoint's files and everything else that decides the bundle's content.

    A bundle inside the checkpoint's folder is not part of the checkpoint; nor are the remains of a killed export.
    """
    own = {target.resolve(), target.resolve().with_name(f".{target.name}.part")}
    files = {
        str(file.resolve()): (file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(checkpoint.path.rglob("*"))
        if file.is_file() and own.isdisjoint(file.resolve().parents)
    }
    # By content, because a converted codec lies in a new temporary folder each time.
    codecs = {file.name: sha256_of(file) for file in codec_files(codec)}
    source = [_exporter(), str(checkpoint.path.resolve()), files, codecs, precision, checked]
    return hashlib.sha256(json.dumps(source).encode()).hexdigest()


def _exporter() -> str:
    try:
        return f"unimoe {version('unimoe')}"
    except PackageNotFoundError:
        return "unimoe unknown"


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    return {**checkpoint.provenance, "checkpoint": checkpoint.path.resolve().name, "exporter": _exporter()}
