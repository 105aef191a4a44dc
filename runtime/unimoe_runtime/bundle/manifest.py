"""The records of manifest.json (files, graphs, the codec), and the checks that they fit one another.

All checks use the manifest alone. No other file is read, and no size from the manifest is used to allocate memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.hashes import FileInfo
from unimoe_runtime.records import Between, JsonRecord, Length, require
from unimoe_runtime.vision.tower import GRAPH as VISION
from unimoe_runtime.vision.tower import VisionConfig

MANIFEST: Final = "manifest.json"
ENCODER: Final = "codec_encoder"
DECODER: Final = "codec_decoder"
# Precisions of floating-point graphs, and how the weights of their products are stored.
DTYPES: Mapping[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
HALVED: Final = ".half"
"""Suffix of a weight's name where a float32 graph stores it in 16 bits and casts it: the codec's decoder in a pack."""

MAX_STATE_VALUES = 1 << 24
"""Largest number of values of a decoder's whole state: 64 MB."""
Name = Annotated[str, Length(1, 1024)]
Size = Annotated[int, Between(0, 1 << 32)]
_TYPES: Final = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
Frames = Annotated[int, Between(0, 4096)]


@dataclass(frozen=True, kw_only=True)
class TensorInfo(JsonRecord):
    """One input or output of a graph. A dimension is a number, or a symbol such as "N" that varies."""

    name: Name
    dtype: Name
    shape: Annotated[tuple[Size | Name, ...], Length(0, 8)]

    def check_together(self) -> None:
        require(self.dtype in _TYPES, "dtype", self.dtype, " or ".join(_TYPES))


@dataclass(frozen=True, kw_only=True)
class GraphInfo(JsonRecord):
    """One graph: its file, the file of its weights (external data), its signature."""

    file: Name
    weights: Name
    precision: Name
    inputs: Annotated[tuple[TensorInfo, ...], Length(1, 4096)]
    outputs: Annotated[tuple[TensorInfo, ...], Length(1, 4096)]


@dataclass(frozen=True, kw_only=True)
class StateInfo(JsonRecord):
    """One tensor of a decoder's state, for a batch of one."""

    name: Name
    dtype: Literal["float32", "int64"]
    shape: Annotated[tuple[Size, ...], Length(1, 8)]


@dataclass(frozen=True, kw_only=True)
class CodecDescription(JsonRecord):
    """The fields of the manifest's `codec` that every kind of codec has. See `codec.bundle_codec`."""

    kind: Name
    sample_rate_hz: Annotated[int, Between(1000, 768_000)]
    hop_samples: Annotated[int, Between(1, 1 << 16)]
    num_codebooks: Annotated[int, Between(1, 1024)]
    codebook_size: Annotated[int, Between(1, 1 << 24)]
    min_first_frames: Annotated[int, Between(1, 4096)] = 1
    context_frames: Frames = 0
    lookahead_frames: Frames = 0
    decoder_state: Annotated[tuple[StateInfo, ...], Length(0, 1024)] = ()

    def check_together(self) -> None:
        size = 0
        for state in self.decoder_state:
            count = 1
            for axis in state.shape:
                count *= axis
            size += count
        require(size <= MAX_STATE_VALUES, "decoder_state", size, f"of at most {MAX_STATE_VALUES:,} values")
        around = self.context_frames or self.lookahead_frames
        if self.decoder_state and around:
            raise ConfigError("a decoder with a state sees each frame once: context_frames and lookahead_frames are 0")


@dataclass(frozen=True, kw_only=True)
class Manifest(JsonRecord):
    """The sections that every bundle has. The code that uses an optional section reads it."""

    format_version: Annotated[int, Between(1, 2)]
    model: ModelConfig
    sampling: Annotated[Mapping[str, SamplingConfig], Length(0, 64)]
    codec: Mapping[str, Any] | None = None
    vision: VisionConfig | None = None
    graphs: Mapping[str, GraphInfo]
    files: Mapping[str, FileInfo]
    provenance: Mapping[str, Any]
    opset: Annotated[int, Between(1, 1000)]

    def check_together(self) -> None:
        if len(self.graphs) < self.model.num_graphs:
            missing = next((name for name in language_model_graphs(self.model) if name not in self.graphs), "")
            raise ConfigError(
                f"the graph {missing} is missing: the model has {self.model.num_graphs:,} graphs, the manifest "
                f"{len(self.graphs):,}"
            )
        codec = read_codec(self.codec)
        if codec is not None:
            for name in ("num_codebooks", "codebook_size"):
                ours, models = getattr(codec, name), getattr(self.model, name)
                require(ours == models, f"codec.{name}", ours, f"the model's, {models}")
        _check_signatures(self, codec)
        for name, graph in self.graphs.items():
            for file in (graph.file, graph.weights):
                if file not in self.files:
                    raise ConfigError(f"graph {name} refers to {file!r}, which is not listed")


def trunk_name(layer: int) -> str:
    """Name of a layer's trunk graph."""
    return f"layers.{layer}.trunk"


def expert_name(layer: int, expert: int) -> str:
    """Name of a routed expert's graph."""
    return f"layers.{layer}.expert.{expert}"


def language_model_graphs(model: ModelConfig) -> Iterator[str]:
    """Names of the graphs that every bundle of this model must have, in the order of a step."""
    for layer in range(model.num_layers):
        yield trunk_name(layer)
        for expert in range(model.num_routed_experts):
            yield expert_name(layer, expert)
    yield "head"


def read_codec(codec: Mapping[str, Any] | None) -> CodecDescription | None:
    """The `codec` of a manifest; None if it has none. Raises ConfigError."""
    return None if codec is None else CodecDescription.from_dict(codec, "codec", ignore_unknown=True)


Shapes = Mapping[str, tuple[str, tuple[int | str, ...]]]
"""Type and shape by name."""


def signatures(graph: str, model: ModelConfig, format_version: int) -> tuple[Shapes, Shapes]:
    """Inputs and outputs of a graph of the language model."""
    hidden, head = ("N", model.hidden_size), model.head_dim
    match graph.split("."):
        case ["layers", _, "trunk"]:
            hidden_BTC = ("B", "T", model.hidden_size)
            outputs = _floats(
                accumulator_NC=hidden, expert_input_NC=hidden, weights_NE=("N", model.num_dynamic_experts),
                router_logits_NR=("N", model.num_router_rows),
            )  # fmt: skip
            rest: Shapes = {"write_index_B": ("int64", ("B",))}
            if format_version == 1:
                cache = ("B", model.num_kv_heads, "S", head)
                inputs = _floats(
                    hidden_BTC=hidden_BTC, cos_BTD=("B", "T", head), sin_BTD=("B", "T", head),
                    key_cache_BHSD=cache, value_cache_BHSD=cache,
                )  # fmt: skip
                rest = {"mask_B1TS": ("bool", ("B", 1, "T", "S")), **rest}
                caches = _floats(new_key_cache_BHSD=cache, new_value_cache_BHSD=cache)
            else:
                slots = ("B", "S", model.num_kv_heads * head)
                inputs = _floats(
                    hidden_BTC=hidden_BTC, hidden_NC=hidden, cos_BTF=("B", "T", head // 2),
                    sin_BTF=("B", "T", head // 2), key_cache_BSX=slots, value_cache_BSX=slots,
                )  # fmt: skip
                rest = {"mask_B1QS": ("bool", ("B", 1, "Q", "S")), **rest}
                caches = _floats(new_key_cache_BSX=slots, new_value_cache_BSX=slots)
            return {**inputs, **rest}, {**outputs, **caches}
        case ["layers", _, "expert", _]:
            inputs = _floats(accumulator_NC=hidden, expert_input_NC=hidden, weight_N1=("N", 1))
            return inputs, _floats(new_accumulator_NC=hidden)
    return _floats(hidden_NC=hidden), _floats(logits_NKV=("N", model.num_codebooks, model.codec_vocab_size))


def codec_signatures(codec: CodecDescription) -> dict[str, tuple[Shapes, Shapes]]:
    """Inputs and outputs of the codec's two graphs."""
    codes: Shapes = {"codes_BKT": ("int64", ("B", codec.num_codebooks, "T"))}
    pcm = _floats(pcm_BL=("B", "L"))
    states: Shapes = {state.name: (state.dtype, ("B", *state.shape[1:])) for state in codec.decoder_state}
    carried = {f"new_{name}": described for name, described in states.items()}
    return {ENCODER: (pcm, codes), DECODER: ({**codes, **states}, {**pcm, **carried})}


def _floats(**shapes: tuple[int | str, ...]) -> Shapes:
    return {name: ("float32", shape) for name, shape in shapes.items()}


def _check_signatures(manifest: Manifest, codec: CodecDescription | None) -> None:
    """Check that the graphs' inputs and outputs match the configuration."""
    model = manifest.model
    expected = {} if codec is None else codec_signatures(codec)
    if manifest.vision is not None and VISION not in manifest.graphs:
        raise ConfigError(f"the graph {VISION} is missing")
    # All trunks are alike, and all experts.
    kinds = {
        name: signatures(name, model, manifest.format_version) for name in (trunk_name(0), expert_name(0, 0), "head")
    }
    for layer in range(model.num_layers):
        expected[trunk_name(layer)] = kinds[trunk_name(0)]
        for expert in range(model.num_routed_experts):
            expected[expert_name(layer, expert)] = kinds[expert_name(0, 0)]
    expected["head"] = kinds["head"]
    for name, sides in expected.items():
        graph = manifest.graphs.get(name)
        if graph is None:
            raise ConfigError(f"the graph {name} is missing")
        for side, shapes, tensors in zip(("inputs", "outputs"), sides, (graph.inputs, graph.outputs), strict=True):
            found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in tensors}
            if found != shapes:
                difference = next(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
                raise ConfigError(
                    f"graphs.{name}.{side}: {difference} is {found.get(difference, 'not there')}, the configuration "
                    f"needs {shapes.get(difference, 'none')}"
                )
