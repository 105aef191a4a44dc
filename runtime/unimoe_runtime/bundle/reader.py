"""The bundle: a folder with one graph per trunk, expert, head and codec side, and all other files that it needs.

manifest.json names every file with its size and SHA-256, every graph with its inputs and outputs, and holds the
model's, the codec's and the sampling configuration. Opening reads the manifest only: schema, sizes, paths. A
file's hash is checked before its first use, so that opening stays fast and no damaged file is ever used.
Adding a field to the manifest does not raise the version; changing a field's meaning does.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.graph_file import require_own_weights
from unimoe_runtime.bundle.manifest import DECODER, ENCODER, Manifest
from unimoe_runtime.bundle.manifest import DTYPES as DTYPES
from unimoe_runtime.bundle.manifest import MANIFEST as MANIFEST
from unimoe_runtime.bundle.manifest import GraphInfo as GraphInfo
from unimoe_runtime.bundle.manifest import TensorInfo as TensorInfo
from unimoe_runtime.bundle.manifest import expert_name as expert_name
from unimoe_runtime.bundle.manifest import language_model_graphs as language_model_graphs
from unimoe_runtime.bundle.manifest import trunk_name as trunk_name
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.hashes import FileInfo, sha256_of
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.files.text import read_bytes, reason_of
from unimoe_runtime.records import shown
from unimoe_runtime.vision.tower import GRAPH as VISION
from unimoe_runtime.vision.tower import VisionConfig, vision_weight_shapes

FORMAT = "unimoe-bundle"
FORMAT_VERSION = 2
"""The version that is written. Version 1, which is still read, has trunks of form 1 (`backends.trunk_form`)."""
READ_VERSIONS = (1, 2)
LEFT_OUT = "left_out"  # optional section: files that a packed bundle lacks
EMBEDDINGS = "embeddings.safetensors"
CALIBRATION_PROMPTS = "calibration/prompts.jsonl"  # optional: texts for calibrating the bundle


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


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle. Nothing but the manifest has been read yet."""

    path: Path
    format_version: int
    model: ModelConfig
    sampling: Mapping[str, SamplingConfig]
    codec: Mapping[str, Any] | None
    vision: VisionConfig | None = None
    graphs: Mapping[str, GraphInfo]
    files: Mapping[str, FileInfo]
    manifest: Mapping[str, Any] = field(repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)
    _sound: set[str] = field(default_factory=set, repr=False)

    @property
    def frontend_dir(self) -> Path | None:
        """Folder of the front end; None in a bundle that holds a language model alone."""
        return self.path / "frontend" if "frontend/frontend.json" in self.files else None

    @property
    def is_quantized(self) -> bool:
        """Whether some graph has weights that are not floating point."""
        return any(graph.precision not in DTYPES for graph in self.graphs.values())

    @property
    def left_out(self) -> frozenset[str]:
        """Files of the manifest that `unimoe pack` left out because the device does not need them."""
        return frozenset(self.manifest.get(LEFT_OUT, ()))

    def checked(self, file: str) -> Path:
        """Path of a file of the bundle. Its SHA-256 is verified the first time. Raises BundleError."""
        path = self.path / file
        if file not in self.files:
            raise BundleError(f"{self.path}: {file} is not in the manifest; export the bundle again")
        if file in self.left_out:
            raise BundleError(
                f"{path}: left out when this bundle was packed for a device; take the bundle that was packed, or run "
                "the engines of this one with --backend tensorrt"
            )
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
        """A graph's description, with its files verified and its weights' shapes compared with the configuration."""
        info = self.graphs.get(name)
        if info is None:
            raise BundleError(f"{self.path}: has no graph {name!r}")
        if name not in self._sound:
            path = self.checked(info.file)
            try:
                require_own_weights(read_bytes(path, BundleError), info.file, info.weights)
            except ValueError as error:
                raise BundleError(f"{path}: {error}; do not use this bundle") from None
            self.weights(name)
            self._sound.add(name)  # only now: after a failure a second call fails as well
        return info

    def weights(self, name: str) -> TensorFile:
        """The verified weights of a graph. Raises BundleError for a shape that differs from the configuration."""
        info = self.graphs[name]
        tensors = TensorFile(self.checked(info.weights), BundleError)
        expected = self._weight_shapes(name) if info.precision in DTYPES else None
        self._require_shapes(tensors, expected or {})
        for tensor in tensors.entries:
            if tensor == "router.weight" or name in (ENCODER, DECODER):
                tensors.require_finite(tensor)
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
        """Verify every file and yield the name of each sound one. Raises BundleError at the first damaged file."""
        for file in self.files:
            if file not in self.left_out:
                self.checked(file)
                yield file
        for name, graph in self.graphs.items():
            if not self.left_out & {graph.file, graph.weights}:
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
    """Open a bundle: check format, version, schema, and that every file exists, lies inside and has its size.

    Raises BundleError with one line that says what is wrong, where, and what to do.
    """
    path = Path(path)
    try:
        found = (path / MANIFEST).is_file()
    except (OSError, ValueError) as error:
        raise BundleError(f"{str(path)[:200]!r}: cannot be opened ({reason_of(error)})") from None
    if not found:
        raise BundleError(_no_bundle(path))
    manifest = read_json(path / MANIFEST, BundleError)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{path}/{MANIFEST}: not a {FORMAT}")
    if manifest.get("format_version") not in READ_VERSIONS:
        raise BundleError(
            f"{path}/{MANIFEST}: format version {shown(manifest.get('format_version'))}, this release reads "
            f"{' and '.join(map(str, READ_VERSIONS))}; export the checkpoint again"
        )
    try:
        sections = Manifest.from_dict(manifest, ignore_unknown=True)
    except ConfigError as error:
        raise BundleError(f"{path}/{MANIFEST}: damaged: {error}; export the bundle again") from None
    bundle = Bundle(
        path=path,
        format_version=sections.format_version,
        model=sections.model,
        sampling=sections.sampling,
        codec=sections.codec,
        vision=sections.vision,
        graphs=sections.graphs,
        files=sections.files,
        manifest=manifest,
    )
    _check_files(bundle)
    return bundle


def _no_bundle(path: Path) -> str:
    old = path.parent / f".{path.name}.old"
    if old.is_dir() and not path.exists():
        return f"{path}: was being replaced when that was killed; `mv {old} {path}` brings back what was there"
    return f"{path}: not a bundle, it has no {MANIFEST}; make one with `unimoe export CHECKPOINT {path}`"


def _check_files(bundle: Bundle) -> None:
    # Paths are texts here: a large bundle has thousands of files in a few folders.
    root = os.path.realpath(bundle.path)
    inside, shared = os.path.join(root, ""), _hub_blobs(root)
    left_out = bundle.left_out
    folders: dict[str, str] = {}
    for name, info in bundle.files.items():
        if name in left_out:
            continue
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise BundleError(f"{bundle.path}/{MANIFEST}: the path {name!r} leaves the bundle; do not use this bundle")
        path = f"{bundle.path}/{name}"
        folder, _, file = name.rpartition("/")
        try:
            if folder not in folders:
                folders[folder] = os.path.realpath(os.path.join(root, folder))
            real = os.path.join(folders[folder], file)
            status = os.lstat(real)
            if stat.S_ISLNK(status.st_mode):
                real = os.path.realpath(real, strict=True)
                status = os.stat(real)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
            raise BundleError(f"{path}: missing; copy or export the bundle again") from None
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: is not a regular file; copy or export the bundle again")
        if not real.startswith(inside) and os.path.dirname(real) != shared:
            raise BundleError(
                f"{path}: a link that leaves the bundle; do not use this bundle, or, where you know what it points "
                f"to, copy it: `cp -rL {shlex.quote(str(bundle.path))} COPY`"
            )
        if status.st_size != info.bytes:
            word = "truncated" if status.st_size < info.bytes else "too long"
            raise BundleError(
                f"{path}: {word}: {status.st_size} bytes, the manifest says {info.bytes}; copy or export it again"
            )


def _hub_blobs(root: str) -> str | None:
    """The folder of a hub's cache that a snapshot's links point to: models--X/blobs, beside snapshots/."""
    for folder in Path(root).parents:
        if folder.name == "snapshots":
            return str(folder.parent / "blobs")
    return None
