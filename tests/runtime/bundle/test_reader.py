"""The bundle format: round trip, and one clear error for each kind of damage, before the damaged part is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.random_checkpoint import tiny_config
from unimoe_runtime.backends.numpy.backend import NumpyBackend
from unimoe_runtime.bundle.manifest import GraphInfo, signatures
from unimoe_runtime.bundle.reader import (
    EMBEDDINGS,
    FORMAT_VERSION,
    MANIFEST,
    TensorInfo,
    expert_name,
    language_model_graphs,
    open_bundle,
    weight_shapes,
)
from unimoe_runtime.bundle.writer import BundleParts, BundleWriter
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BundleError, OutputError

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


def test_round_trip(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    assert bundle.model == CONFIG
    assert bundle.sampling == {"speech": SamplingConfig()}
    assert list(bundle.graphs) == list(language_model_graphs(CONFIG))
    assert bundle.graphs["head"].inputs[0].shape == ("N", CONFIG.hidden_size)
    assert len(list(bundle.check_all())) == len(bundle.files)
    assert not [path for path in tmp_path.iterdir() if path.name != "bundle"]


def test_opening_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening is fast, because hashes are checked at the first use."""
    target = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr("unimoe_runtime.bundle.reader.sha256_of", lambda path: pytest.fail(f"{path} was hashed"))
    open_bundle(target)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format="zip"), "not a unimoe-bundle"),
        (lambda m: m.update(format_version=3), "format version 3"),
        (lambda m: m.pop("graphs"), "'graphs' is missing"),
        (lambda m: m["model"].update(top_p=1.5), "top_p is 1.5"),
        (lambda m: m["model"].update(colour="red"), "colour"),
        (lambda m: m["graphs"].pop("head"), "head is missing"),
        (lambda m: m["graphs"]["head"].update(weights="elsewhere.safetensors"), "not listed"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda m: m["files"].update({"/etc/hostname": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda m: m["files"].update({"gone": {"bytes": 1, "sha256": ""}}), "missing"),
    ],
)
def test_damaged_manifest(tmp_path: Path, edit: Callable[[dict], None], message: str) -> None:
    target = write_bundle(tmp_path / "bundle")
    edit_manifest(target, edit)
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(target)
    assert "\n" not in str(caught.value)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a bundle, it has no manifest\.json"):
        open_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        open_bundle(tmp_path)


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    weights = target / "head.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    with pytest.raises(BundleError, match="truncated"):
        open_bundle(target)
    weights.unlink()
    with pytest.raises(BundleError, match="missing"):
        open_bundle(target)


def test_link_out_of_the_bundle(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    outside = tmp_path / "outside"
    (target / "head.safetensors").rename(outside)
    (target / "head.safetensors").symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(target)


@pytest.mark.parametrize("file", ["head.onnx", "head.safetensors"])
def test_one_flipped_byte_stops_the_part_that_has_it(tmp_path: Path, file: str) -> None:
    target = write_bundle(tmp_path / "bundle")
    content = bytearray((target / file).read_bytes())
    content[-1] ^= 1
    (target / file).write_bytes(content)
    backend = NumpyBackend(open_bundle(target))
    hidden = np.ones((1, CONFIG.hidden_size), np.float32)
    inputs = {"accumulator_NC": hidden, "expert_input_NC": hidden, "weight_N1": np.ones((1, 1), np.float32)}
    assert backend.run(expert_name(0, 0), inputs)["new_accumulator_NC"].shape == hidden.shape
    with pytest.raises(BundleError, match="damaged: its SHA-256"):
        backend.run("head", {"hidden_NC": hidden})


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    """Weights that are a valid file but belong to another model."""
    target = write_bundle(tmp_path / "bundle")
    edit_manifest(target, lambda m: m["model"].update(qkv_bias=False, routed_intermediate_size=13))
    bundle = open_bundle(target)
    with pytest.raises(BundleError, match=r"gate_up\.weight has the shape \[16, 24\], the model needs \[16, 26\]"):
        bundle.graph(expert_name(0, 0))
    with pytest.raises(BundleError, match="gate_up"):  # every later access also gets the error
        bundle.graph(expert_name(0, 0))


def test_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), BundleWriter(tmp_path / "bundle") as writer:
        (writer.directory / "part").write_bytes(b"half")
        raise OSError(28, "No space left on device")
    with BundleWriter(tmp_path / "bundle") as writer:
        (writer.directory / "part").write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []


def test_existing_target(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    with pytest.raises(OutputError, match="--force"):
        write_bundle(target)
    write_bundle(target, tiny_config(num_layers=1), replace=True)
    assert open_bundle(target).model.num_layers == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(other, replace=True)
