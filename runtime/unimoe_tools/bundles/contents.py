"""The content of a bundle: its model in words, bytes by part, precisions, engines and their verification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unimoe_runtime.bundle.engine_sets import EngineSet, built_targets, engine_folder, read_engines
from unimoe_runtime.bundle.engine_verification import read_verification
from unimoe_runtime.bundle.manifest import DECODER, HALVED
from unimoe_runtime.bundle.reader import EMBEDDINGS, Bundle, TensorInfo
from unimoe_runtime.errors import EngineError
from unimoe_runtime.hardware.precisions import shown_precision

PARTS = ("trunks", "experts", "head", "embeddings", "codec encoder", "codec decoder", "vision", "front end", "other")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a bundle. `precisions`: those of its graphs; empty for a part without graphs. `left_out_bytes`: of
    files that a pack lacks; `num_bytes` and `num_graphs` do not count them."""

    name: str
    num_bytes: int
    left_out_bytes: int = 0
    num_graphs: int = 0
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Engines:
    """One set of engines, and whether it was verified. `error`: why the set is unreadable."""

    target: str
    flavour: str = ""
    engine_version: str = ""
    precisions: tuple[str, ...] = ()
    num_bytes: int = 0
    num_engines: int = 0
    verified: str = "never verified"
    error: str = ""


def parts_of(bundle: Bundle) -> list[Part]:
    """Bytes by part, in the order of `PARTS`; parts that a bundle lacks are left out."""
    files: dict[str, set[str]] = {name: set() for name in PARTS}
    graphs: dict[str, list[str]] = {name: [] for name in PARTS}
    for name, graph in bundle.graphs.items():
        part = part_of_graph(name)
        files[part] |= {graph.file, graph.weights}
        if graph.file not in bundle.left_out:
            graphs[part].append(shown_precision(graph.precision) + _stored(bundle, name))
    taken = set().union(*files.values())
    for name in bundle.files:
        if name not in taken:
            files[part_of_file(name)].add(name)
    return [
        Part(
            name=part,
            num_bytes=sum(bundle.files[name].bytes for name in files[part] - bundle.left_out),
            left_out_bytes=sum(bundle.files[name].bytes for name in files[part] & bundle.left_out),
            num_graphs=len(graphs[part]),
            precisions=tuple(sorted(set(graphs[part]))),
        )
        for part in PARTS
        if files[part]
    ]


def _stored(bundle: Bundle, graph: str) -> str:
    """How a decoder that `pack` halved stores its weights, in words; empty for any other graph."""
    if graph != DECODER or bundle.graphs[graph].weights in bundle.left_out:
        return ""
    halved = any(name.endswith(HALVED) for name in bundle.weights(graph).entries)
    return ", weights in 16 bits" if halved else ""


def part_of_graph(name: str) -> str:
    """The part that a graph belongs to."""
    if name.startswith("layers."):
        return "experts" if ".expert." in name else "trunks"
    return {"codec_encoder": "codec encoder", "codec_decoder": "codec decoder"}.get(
        name, name if name in PARTS else "other"
    )


def part_of_file(name: str) -> str:
    """The part of a file that belongs to no graph."""
    if name == EMBEDDINGS:
        return "embeddings"
    return "front end" if name.startswith("frontend/") else "other"


def engines_of(bundle: Bundle) -> Iterator[Engines]:
    """Every set of engines beside a bundle."""
    for target in built_targets(bundle):
        try:
            yield _engines(read_engines(engine_folder(bundle, target)))
        except EngineError as error:
            yield Engines(target=target, error=str(error))


def _engines(engine_set: EngineSet) -> Engines:
    return Engines(
        target=engine_set.target,
        flavour=engine_set.flavour,
        engine_version=engine_set.engine_version,
        precisions=tuple(map(shown_precision, engine_set.precisions)),
        num_bytes=sum(record.bytes for record in engine_set.engines.values()),
        num_engines=len(engine_set.engines),
        verified=_verified(engine_set),
    )


def _verified(engine_set: EngineSet) -> str:
    try:
        record = read_verification(engine_set.path)
    except EngineError as error:
        return f"the record is damaged: {error}"
    if record is None:
        return "never verified"
    if record.engines_sha256 != engine_set.sha256():
        return "rebuilt after it was verified"
    where = f"on {record.machine.get('gpu') or 'no GPU'}, driver {record.machine.get('driver') or 'unknown'}"
    return f"{'verified' if record.passed else 'FAILED'} {where}, {record.date[:10]}"


def model_facts(bundle: Bundle) -> dict[str, str]:
    """The model in words."""
    model = bundle.model
    picks = f"Top-P {model.top_p:g}" if model.selection == "top_p" else f"Top-K {model.top_k}"
    facts = {
        "model": (
            f"{model.num_layers} layers of {model.hidden_size}; {model.num_routed_experts} routed experts, "
            f"{model.num_null_experts} null, {model.num_shared_experts} shared; {picks} by {model.weighting}"
        )
    }
    if bundle.codec is not None:
        codec = bundle.codec
        rate_hz = codec["sample_rate_hz"] / codec["hop_samples"]
        facts["codec"] = (
            f"{codec.get('kind', 'unknown')}, {codec['num_codebooks']} codebooks, {rate_hz:g} frames a second"
        )
    quantization = bundle.manifest.get("quantization")
    if quantization:
        facts["quantized"] = f"for {quantization.get('target')}, method {quantization.get('method')}"
    return facts


def graph_signatures(bundle: Bundle) -> list[dict[str, Any]]:
    """Every graph with its precision, bytes, inputs and outputs."""
    return [
        {
            "graph": name,
            "precision": shown_precision(graph.precision),
            "bytes": bundle.files[graph.file].bytes + bundle.files[graph.weights].bytes,
            "inputs": list(map(_signature, graph.inputs)),
            "outputs": list(map(_signature, graph.outputs)),
        }
        for name, graph in bundle.graphs.items()
    ]


def _signature(tensor: TensorInfo) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def describe(bundle: Bundle) -> Mapping[str, Any]:
    """The complete output of `unimoe inspect`, as JSON."""
    model = bundle.model
    parts = parts_of(bundle)
    return {
        "bundle": str(bundle.path),
        **model_facts(bundle),
        "layers": model.num_layers,
        "hidden": model.hidden_size,
        "experts_a_layer": {
            "routed": model.num_routed_experts, "null": model.num_null_experts, "shared": model.num_shared_experts,
        },
        "tasks": sorted(bundle.sampling),
        "bytes": sum(part.num_bytes for part in parts),
        "parts": [asdict(part) for part in parts],
        "engines": [asdict(engines) for engines in engines_of(bundle)],
        "opset": bundle.manifest.get("opset"),
        "graphs": graph_signatures(bundle),
    }  # fmt: skip
