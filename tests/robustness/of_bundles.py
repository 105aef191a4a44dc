"""Bundles, with hashes updated as their author would: manifest, weights, graphs, files."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import onnx

from tests.robustness.bases import MANIFEST, Bases, copy_tree, put, rehash
from tests.robustness.cases import Case, Mutator
from tests.robustness.spoken import FREE_SETTINGS, is_free, speak
from tests.robustness.values import damage_document, damage_text


def manifest(bases: Bases, folder: Path, rng: random.Random) -> Case:
    bundle = copy_tree(bases.bundle, folder / "bundle")
    what, document = damage_document(json.loads((bundle / MANIFEST).read_bytes()), rng)
    put(bundle / MANIFEST, json.dumps(document).encode())
    if rng.random() < 0.2:
        argv = ("inspect", str(bundle), *rng.choice(((), ("--check",))))
        return Case(format="manifest", what=what, argv=argv, free=True, folder=folder)
    return speak(bundle, folder, rng, "manifest", what, free=is_free(what, FREE_SETTINGS))


def manifest_text(bases: Bases, folder: Path, rng: random.Random) -> Case:
    bundle = copy_tree(bases.bundle, folder / "bundle")
    what, content = damage_text((bundle / MANIFEST).read_bytes(), rng)
    put(bundle / MANIFEST, content)
    return speak(bundle, folder, rng, "manifest", what, free=what.startswith("bit"))


def sizes(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """Counts and shapes that exceed any memory."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    document = json.loads((bundle / MANIFEST).read_bytes())
    huge = rng.choice((10**6, 10**9, 10**12, 2**62))
    model, codec = document["model"], document["codec"]
    match rng.randrange(5):
        case 0:
            name = rng.choice([name for name, value in model.items() if type(value) is int])
            model[name] = huge
        case 1:
            name = "delay_pattern"
            model[name] = [huge] * len(model[name])
        case 2:
            name = "decoder_state"
            rng.choice(codec[name])["shape"] = rng.choice(([1, huge], [huge, 1, 1], [huge] * 40, [1, 8, huge]))
        case 3:
            name = rng.choice([name for name, value in codec.items() if type(value) is int])
            codec[name] = rng.choice((huge, -huge, 0, -1))
        case _:
            name = "graphs"
            tensor = rng.choice(rng.choice(list(document["graphs"].values()))[rng.choice(("inputs", "outputs"))])
            tensor["shape"] = [huge] * rng.choice((1, 2, 3, 60))
    put(bundle / MANIFEST, json.dumps(document).encode())
    free = name in ("max_positions", "sample_rate_hz", "aux_loss_decay_steps", "min_capacity", "top_k")
    return speak(bundle, folder, rng, "sizes", f"{name} about {huge}", free=free)


def weights(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A non-finite number in a tensor of any graph."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    path = rng.choice(sorted(bundle.rglob("*.safetensors")))
    content = bytearray(path.read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    value = rng.choice((float("nan"), float("inf"), float("-inf")))
    count = rng.choice((1, (end - begin) // 4))
    places = [rng.randrange((end - begin) // 4)] if count == 1 else range(count)
    for place in places:
        struct.pack_into("<f", content, 8 + length + begin + 4 * place, value)
    put(path, bytes(content))
    file = path.relative_to(bundle).as_posix()
    if rng.random() < 0.9:
        rehash(bundle, file)
    return speak(bundle, folder, rng, "weights", f"{value} × {count} in {file}, {name}")


def tensors(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A safetensors file whose header is false or invalid."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    path = rng.choice(sorted(bundle.rglob("*.safetensors")))
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length]
    match rng.randrange(4):
        case 0:
            what, text = damage_text(header, rng)
            content = struct.pack("<Q", len(text)) + text + content[8 + length :]
        case 1:
            what, cut = "length", rng.choice((0, 1, 2**31, 2**63, len(content), len(content) - 8))
            content = struct.pack("<Q", cut) + content[8:]
        case 2:
            what, content = "cut off", content[: rng.randrange(len(content))]
        case _:
            what, document = damage_document(json.loads(header), rng)
            text = json.dumps(document).encode()
            content = struct.pack("<Q", len(text)) + text + content[8 + length :]
    put(path, content)
    file = path.relative_to(bundle).as_posix()
    rehash(bundle, file)
    return speak(bundle, folder, rng, "safetensors", f"{file}: {what}", free=what.startswith("bit"))


def graph(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """An ONNX file with a graph that contradicts the manifest or reads another file."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    path = rng.choice(sorted(bundle.rglob("*.onnx")))
    model = onnx.load(path, load_external_data=False)
    what, free = _damage_graph(model, rng)
    content = model.SerializeToString()
    if what == "bytes":
        raw = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 4, 64))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        content = bytes(raw[: rng.choice((len(raw), len(raw), rng.randrange(len(raw))))])
    put(path, content)
    file = path.relative_to(bundle).as_posix()
    rehash(bundle, file)
    return speak(bundle, folder, rng, "onnx", f"{file}: {what}", free=free)


def _damage_graph(model: onnx.ModelProto, rng: random.Random) -> tuple[str, bool]:
    graph = model.graph
    external = [tensor for tensor in graph.initializer if tensor.external_data]
    match rng.randrange(9):
        case 0:
            value = rng.choice([*graph.input, *graph.output])
            value.name += "x"
            return "a renamed input or output", False
        case 1:
            graph.output.pop(rng.randrange(len(graph.output)))
            return "without an output", False
        case 2:
            value = rng.choice([*graph.input, *graph.output])
            value.type.tensor_type.elem_type = rng.choice((2, 3, 6, 7, 9, 10, 11, 99))
            return "another type", False
        case 3:
            value = rng.choice([*graph.input, *graph.output])
            if not value.type.tensor_type.shape.dim:
                return "no dimension", True
            size = rng.choice(value.type.tensor_type.shape.dim)
            size.dim_value = rng.choice((1, 3, 7, 2**31, 2**62))
            return "another shape", False
        case 4 if external:
            tensor = rng.choice(external)
            other = rng.choice(
                (
                    "../manifest.json", "manifest.json", "../../bundle/manifest.json", "/etc/passwd",
                    "expert_0.safetensors", "../head.safetensors", "a" * 300, "", "trunk.safetensors\0",
                )
            )  # fmt: skip
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = other
            return f"weights in {other[:40]!r}", False
        case 5 if external:
            tensor = rng.choice(external)
            for entry in tensor.external_data:
                if entry.key in ("offset", "length"):
                    entry.value = rng.choice(("-1", "1", str(2**62), "x", ""))
            return "weights at another place", True
        case 6:
            graph.node.pop(rng.randrange(len(graph.node)))
            return "without a node", True
        case 7:
            rng.choice(graph.node).op_type = rng.choice(("Nothing", "If", "Loop", "Reshape", "Shape"))
            return "another operator", True
        case _:
            return "bytes", True


def files(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A bundle with files that are missing, truncated, of another kind, or links."""
    bundle = copy_tree(bases.bundle, folder / "bundle")
    path = rng.choice([path for path in sorted(bundle.rglob("*")) if path.is_file()])
    content = path.read_bytes()
    what = rng.choice(("gone", "empty", "cut", "folder", "flipped", "outside", "loop", "longer"))
    path.unlink()
    match what:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: rng.randrange(len(content))])
        case "folder":
            path.mkdir()
        case "flipped":
            at = rng.randrange(len(content))
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        case "outside":
            (folder / "elsewhere").write_bytes(content)
            path.symlink_to(folder / "elsewhere")
        case "loop":
            path.symlink_to(path)
        case "longer":
            path.write_bytes(content + b"\0" * 100)
    return speak(bundle, folder, rng, "files", f"{path.relative_to(bundle)} {what}", free=path.name == MANIFEST)


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "manifest": (manifest, 20), "manifest text": (manifest_text, 4), "sizes": (sizes, 10), "weights": (weights, 10),
    "safetensors": (tensors, 8), "onnx": (graph, 10), "files": (files, 5),
}  # fmt: skip
