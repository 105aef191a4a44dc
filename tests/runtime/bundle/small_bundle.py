"""A small bundle without ONNX graphs, and changes to its manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.random_checkpoint import tiny_config
from unimoe_runtime.bundle.manifest import GraphInfo, signatures
from unimoe_runtime.bundle.reader import (
    EMBEDDINGS,
    FORMAT_VERSION,
    MANIFEST,
    TensorInfo,
    language_model_graphs,
    weight_shapes,
)
from unimoe_runtime.bundle.writer import BundleParts, BundleWriter
from unimoe_runtime.config import ModelConfig, SamplingConfig

CONFIG = tiny_config()


def write_bundle(target: Path, config: ModelConfig = CONFIG, *, replace: bool = False) -> Path:
    """A bundle of random weights with placeholder .onnx files, which suffices for tests that run no ONNX."""
    rng = np.random.default_rng(0)
    with BundleWriter(target, replace=replace) as writer:
        for name in language_model_graphs(config):
            stem = name.replace(".", "-")
            shapes = weight_shapes(name, config)
            assert shapes is not None
            tensors = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
            save_file(tensors, writer.directory / f"{stem}.safetensors")
            # ModelProto: an empty graph, with the name as its documentation.
            (writer.directory / f"{stem}.onnx").write_bytes(b"\x3a\x00\x32" + bytes([len(name)]) + name.encode())
            inputs, outputs = (
                [TensorInfo(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in side.items()]
                for side in signatures(name, config, FORMAT_VERSION)
            )
            graph = GraphInfo(
                file=f"{stem}.onnx", weights=f"{stem}.safetensors", precision="float32", inputs=tuple(inputs),
                outputs=tuple(outputs),
            )  # fmt: skip
            writer.add_graph(name, graph)
        embeddings = {
            "text.weight": rng.standard_normal((config.text_vocab_size, config.hidden_size)),
            "codec.weight": rng.standard_normal((config.num_codebooks, config.codec_vocab_size, config.hidden_size)),
        }
        save_file({key: value.astype(np.float32) for key, value in embeddings.items()}, writer.directory / EMBEDDINGS)
        writer.add_file(EMBEDDINGS)
        writer.finish(
            BundleParts(
                model=config, sampling={"speech": SamplingConfig()}, codec=None, provenance={"source": "test"}, opset=24
            )
        )
    return target


def edit_manifest(bundle: Path, edit: Callable[[dict], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    edit(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def finish(writer: BundleWriter, **sections: Any) -> None:
    writer.finish(BundleParts(model=tiny_config(), sampling={}, codec=None, provenance={}, opset=24, sections=sections))
