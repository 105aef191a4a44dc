"""The bundle: a folder with one graph per trunk, expert, head and codec side, and everything else it needs.

manifest.json names every file with its size and SHA-256, every graph with its inputs and outputs, and holds the
model's, the codec's and the sampling configuration. Opening reads the manifest only: schema, sizes, paths. A
file's hash is checked before its first use, so that opening stays fast and no damaged byte is ever computed with.
Adding a field to the manifest never raises the version; changing a meaning does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.hashes import FileInfo, sha256_of
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.vision.tower import GRAPH as VISION
from unimoe_runtime.vision.tower import VisionConfig, vision_weight_shapes

FORMAT = "unimoe-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
EMBEDDINGS = "embeddings.safetensors"
CALIBRATION_PROMPTS = "calibration/prompts.jsonl"  # optional: texts that the bundle can be calibrated with
# Precisions of floating-point graphs, and how the weights of their products are stored.
DTYPES: Mapping[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One input or output of a graph. A dimension is a number, or a symbol such as "N" that varies."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """One graph: its file, its weights' file (external data), its signature."""

    file: str
    weights: str
    precision: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def trunk_name(layer: int) -> str:
    return f"layers.{layer}.trunk"


def expert_name(layer: int, expert: int) -> str:
    return f"layers.{layer}.expert.{expert}"


def weight_shapes(graph: str, model: ModelConfig) -> dict[str, tuple[int, ...]] | None:
    """Shapes of a language-model graph's floating-point weights, [in, out]; None for the codec's graphs."""
    hidden, head = model.hidden_size, model.head_dim
    match graph.split("."):
        case ["layers", _, "trunk"]:
            qkv = (model.num_heads + 2 * model.num_kv_heads) * head
            shapes: dict[str, tuple[int, ...]] = {"attention_norm.weight": (hidden,), "qkv.weight": (hidden, qkv)}
            if model.qkv_bias:
                shapes["qkv.bias"] = (qkv,)
            shapes["o.weight"] = (model.num_heads * head, hidden)
            shapes["moe_norm.weight"] = (hidden,)
            if model.num_router_rows:
                shapes["router.weight"] = (hidden, model.num_router_rows)
            width = model.num_shared_experts * model.shared_intermediate_size
            if width:
                shapes["shared.gate_up.weight"] = (hidden, 2 * width)
                shapes["shared.down.weight"] = (width, hidden)
            return shapes
        case ["layers", _, "expert", _]:
            width = model.routed_intermediate_size
            return {"gate_up.weight": (hidden, 2 * width), "down.weight": (width, hidden)}
        case ["head"]:
            outputs = model.num_codebooks * model.codec_vocab_size
            return {"norm.weight": (hidden,), "head.weight": (hidden, outputs)}
    return None


def language_model_graphs(model: ModelConfig) -> Iterator[str]:
    """Names of the graphs that every bundle of this model must have, in the order of a step."""
    for layer in range(model.num_layers):
        yield trunk_name(layer)
        for expert in range(model.num_routed_experts):
            yield expert_name(layer, expert)
    yield "head"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle. Nothing but the manifest has been read yet."""

    path: Path
    model: ModelConfig
    sampling: Mapping[str, SamplingConfig]
    codec: Mapping[str, Any] | None
    vision: VisionConfig | None = None
    graphs: Mapping[str, GraphInfo]
    files: Mapping[str, FileInfo]
    manifest: Mapping[str, Any] = field(repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)

    @property
    def frontend_dir(self) -> Path | None:
        """Folder of the front end; None in a bundle that holds a language model alone."""
        return self.path / "frontend" if "frontend/frontend.json" in self.files else None

    @property
    def is_quantized(self) -> bool:
        """Whether some graph has weights that are no floating-point ones."""
        return any(graph.precision not in DTYPES for graph in self.graphs.values())

    def checked(self, file: str) -> Path:
        """Path of a file of the bundle, its SHA-256 verified the first time. Raises BundleError."""
        path = self.path / file
        if file not in self.files:
            raise BundleError(f"{self.path}: {file} is not in the manifest; export the bundle again")
        if file not in self._checked:
            if sha256_of(path) != self.files[file].sha256:
                raise BundleError(f"{path}: damaged: its SHA-256 is not the manifest's; export the bundle again")
            self._checked.add(file)
        return path

    def checked_frontend(self) -> Path | None:
        """`frontend_dir` with each of its files verified. Raises BundleError."""
        for file in self.files:
            if file.startswith("frontend/"):
                self.checked(file)
        return self.frontend_dir

    def graph(self, name: str) -> GraphInfo:
        """A graph's description, its files verified and its weights' shapes compared with the configuration."""
        info = self.graphs.get(name)
        if info is None:
            raise BundleError(f"{self.path}: has no graph {name!r}")
        if info.file not in self._checked or info.weights not in self._checked:
            self.checked(info.file)
            self.weights(name)
        return info

    def weights(self, name: str) -> TensorFile:
        """The weights of a graph, verified. Raises BundleError for a shape the configuration does not have."""
        info = self.graphs[name]
        tensors = TensorFile(self.checked(info.weights), BundleError)
        expected = self._weight_shapes(name) if info.precision in DTYPES else None
        self._require_shapes(tensors, expected or {})
        return tensors

    def _weight_shapes(self, name: str) -> dict[str, tuple[int, ...]] | None:
        if name == VISION and self.vision is not None:
            return vision_weight_shapes(self.vision)
        return weight_shapes(name, self.model)

    def embeddings(self) -> TensorFile:
        """`text.weight` [Vt, C] and `codec.weight` [K, V, C], memory-mapped."""
        tensors = TensorFile(self.checked(EMBEDDINGS), BundleError)
        model = self.model
        text = (model.text_vocab_size, model.hidden_size)
        codec = (model.num_codebooks, model.codec_vocab_size, model.hidden_size)
        self._require_shapes(tensors, {"text.weight": text, "codec.weight": codec})
        return tensors

    def check_all(self) -> Iterator[str]:
        """Verify every file, yielding each name once it is found sound. Raises BundleError at the first that is not."""
        for file in self.files:
            self.checked(file)
            yield file
        for name in self.graphs:
            self.graph(name)
        self.embeddings()

    def _require_shapes(self, tensors: TensorFile, expected: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in expected.items():
            entry = tensors.entries.get(name)
            if entry is None:
                raise BundleError(f"{tensors.path}: lacks the tensor {name!r}; export the bundle again")
            if entry.shape != shape:
                raise BundleError(
                    f"{tensors.path}: {name} has the shape {list(entry.shape)}, the model needs {list(shape)}; "
                    "export the bundle again"
                )


def open_bundle(path: Path | str) -> Bundle:
    """Open a bundle: check format, version, schema, and that every file is there, inside, and of its size.

    Raises BundleError with one line that says what is wrong, where, and what to do.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise BundleError(
            f"{path}: not a bundle, it has no {MANIFEST}; make one with `unimoe export CHECKPOINT {path}`"
        )
    manifest = read_json(path / MANIFEST, BundleError)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{path}/{MANIFEST}: not a {FORMAT}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{path}/{MANIFEST}: format version {manifest.get('format_version')!r}, this release reads "
            f"{FORMAT_VERSION}; export the checkpoint again"
        )
    try:
        bundle = _parse(path, manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else error
        raise BundleError(f"{path}/{MANIFEST}: damaged: {reason}") from None
    _check_files(bundle)
    return bundle


def _parse(path: Path, manifest: dict[str, Any]) -> Bundle:
    try:
        model = ModelConfig.from_dict(manifest["model"])
        sampling = {task: SamplingConfig.from_dict(values) for task, values in manifest["sampling"].items()}
        vision = VisionConfig.from_dict(manifest["vision"]) if manifest.get("vision") else None
    except ConfigError as error:
        raise BundleError(f"{path}/{MANIFEST}: {error}") from None
    files = {
        name: FileInfo(bytes=int(info["bytes"]), sha256=str(info["sha256"])) for name, info in manifest["files"].items()
    }
    graphs = {name: parse_graph(info) for name, info in manifest["graphs"].items()}
    return Bundle(
        path=path,
        model=model,
        sampling=sampling,
        codec=manifest["codec"],
        vision=vision,
        graphs=graphs,
        files=files,
        manifest=manifest,
    )


def parse_graph(info: Mapping[str, Any]) -> GraphInfo:
    """A graph's description as `dataclasses.asdict` wrote it. Raises KeyError, TypeError where it is damaged."""
    return GraphInfo(
        file=info["file"],
        weights=info["weights"],
        precision=info["precision"],
        inputs=tuple(_tensor_info(item) for item in info["inputs"]),
        outputs=tuple(_tensor_info(item) for item in info["outputs"]),
    )


def _tensor_info(item: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(name=item["name"], dtype=item["dtype"], shape=tuple(item["shape"]))


def _check_files(bundle: Bundle) -> None:
    root = bundle.path.resolve()
    for name, info in bundle.files.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\\" in name:
            raise BundleError(f"{bundle.path}/{MANIFEST}: the path {name!r} leaves the bundle; do not use this bundle")
        path = bundle.path / name
        if not path.is_file():
            raise BundleError(f"{path}: missing; copy or export the bundle again")
        if not path.resolve().is_relative_to(root):
            raise BundleError(f"{path}: a link that leaves the bundle; do not use this bundle")
        size = path.stat().st_size
        if size != info.bytes:
            word = "truncated" if size < info.bytes else "too long"
            raise BundleError(f"{path}: {word}: {size} bytes, the manifest says {info.bytes}; copy or export it again")
    for name, graph in bundle.graphs.items():
        for file in (graph.file, graph.weights):
            if file not in bundle.files:
                raise BundleError(f"{bundle.path}/{MANIFEST}: graph {name} refers to {file!r}, which is not listed")
    needed = [*language_model_graphs(bundle.model), *[VISION] * (bundle.vision is not None)]
    missing = [name for name in needed if name not in bundle.graphs]
    if missing:
        raise BundleError(f"{bundle.path}/{MANIFEST}: the graph {missing[0]} is missing; export the bundle again")
