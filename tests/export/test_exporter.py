"""Exporting a checkpoint: the bundle's contents, refusals, and no incomplete output."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from tests.export.fresh_interpreter import ENCODEC, python
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe.cli.export import export
from unimoe_export import exporter
from unimoe_export.checking import check_graph
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, DTYPES, language_model_graphs, open_bundle
from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, open_checkpoint, tensor_shapes
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError, GraphError
from unimoe_runtime.files.safetensors_reader import TensorFile, encode, widen
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel


def test_the_checkpoint_s_calibration_prompts_come_along(checkpoint: Path, tmp_path: Path) -> None:
    prompts = checkpoint / CALIBRATION_PROMPTS
    prompts.parent.mkdir()
    prompts.write_text('{"task": "speech", "text": "hello"}\n')
    export_bundle(checkpoint, tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").checked(CALIBRATION_PROMPTS).read_bytes() == prompts.read_bytes()


def test_bundle_is_whole(checkpoint: Path, tmp_path: Path) -> None:
    seen = []
    result = export_bundle(
        checkpoint, tmp_path / "bundle", progress=lambda index, count, name: seen.append((index, count, name))
    )
    bundle = open_bundle(tmp_path / "bundle")
    source = open_checkpoint(checkpoint)
    assert bundle.model == source.model
    assert list(bundle.graphs) == list(language_model_graphs(source.model)) and result.num_graphs == len(bundle.graphs)
    assert set(bundle.check_all()) == {
        str(file.relative_to(bundle.path)) for file in bundle.path.rglob("*") if file.is_file()
    } - {"manifest.json"}
    assert bundle.codec is None and bundle.frontend_dir is None
    assert bundle.manifest["provenance"]["checkpoint"] == "checkpoint"
    assert result.num_bytes == sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    assert result.largest_error is not None and 0 < result.largest_error < 1e-5
    assert [item[0] for item in seen] == list(range(seen[0][1] + 1)) and seen[-1][2] == "done"
    embeddings = bundle.embeddings()
    np.testing.assert_array_equal(embeddings.raw("text.weight"), source.tensor("text_embedding.weight"))
    for codebook in range(source.model.num_codebooks):
        np.testing.assert_array_equal(
            embeddings.raw("codec.weight")[codebook], source.tensor(f"codec_embedding.{codebook}.weight")
        )


def test_same_checkpoint_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    export_bundle(checkpoint, tmp_path / "first")
    export_bundle(checkpoint, tmp_path / "second")
    assert (tmp_path / "first/manifest.json").read_bytes() == (tmp_path / "second/manifest.json").read_bytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stored", [("BF16",), ("F16",), ("F32", "BF16", "F16")])
def test_any_precision_in(checkpoint: Path, tmp_path: Path, stored: tuple[str, ...], precision: str) -> None:
    """Checkpoints in 16 bits, and checkpoints with several types among tensors that the bundle joins."""
    values = load_file(checkpoint / "model.safetensors")
    dtypes = {name: stored[index % len(stored)] for index, name in enumerate(sorted(values))}
    shapes = {name: value.shape for name, value in values.items()}
    write_tensors(checkpoint / "model.safetensors", shapes, lambda name: [values[name]], dtypes)
    source = open_checkpoint(checkpoint)
    assert {source.dtype(name) for name in values} == set(stored)
    export_bundle(checkpoint, tmp_path / "bundle", precision=precision)
    bundle = open_bundle(tmp_path / "bundle")

    def expected(*names: str) -> np.ndarray:
        rows = np.concatenate([source.tensor(name) for name in names])
        return widen(encode(rows, DTYPES[precision]), DTYPES[precision])

    ids = np.arange(20)
    np.testing.assert_array_equal(bundle.embeddings().rows("text.weight")(ids), expected("text_embedding.weight"))
    prefix = "layers.1.attention."
    qkv = bundle.weights("layers.1.trunk").float32("qkv.weight")
    np.testing.assert_array_equal(qkv.T, expected(*(f"{prefix}{part}_proj.weight" for part in "qkv"))[in_turn(8)])
    prefix = "layers.1.moe.experts.2."
    gate_up = bundle.weights("layers.1.expert.2").float32("gate_up.weight")
    np.testing.assert_array_equal(gate_up.T, expected(f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"))


def in_turn(num_heads: int) -> np.ndarray:
    """The checkpoint's rows for the bundle's heads.

    Query heads come in the order 0, 2, 1, 3, because two key heads alternate; keys and values follow."""
    return np.concatenate([np.arange(8 * head, 8 * (head + 1)) for head in (0, 2, 1, 3, 4, 5, 6, 7)[:num_heads]])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bits_out(checkpoint: Path, tmp_path: Path, precision: str) -> None:
    """Matrices and embeddings are rounded to nearest, the rest stays; bundle and oracle agree on them."""
    result = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "bundle"), "--precision", precision, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["largest_error"] < 1e-5
    bundle, source = open_bundle(tmp_path / "bundle"), open_checkpoint(checkpoint)
    assert {graph.precision for graph in bundle.graphs.values()} == {{"fp16": "float16", "bf16": "bfloat16"}[precision]}
    assert len(list(bundle.check_all())) == len(bundle.files)
    torch_type = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def rounded(name: str) -> np.ndarray:
        return torch.from_numpy(source.tensor(name)).to(torch_type).float().numpy()

    trunk = bundle.weights("layers.1.trunk")
    np.testing.assert_array_equal(trunk.float32("o.weight"), rounded("layers.1.attention.o_proj.weight").T[in_turn(4)])
    np.testing.assert_array_equal(trunk.float32("router.weight"), source.tensor("layers.1.moe.router.weight").T)
    ids = np.array([[3, 0], [19, 3]])
    np.testing.assert_array_equal(bundle.embeddings().rows("text.weight")(ids), rounded("text_embedding.weight")[ids])
    prompt = Prompt.from_rows([np.arange(5), np.arange(3)], paired=True)
    logits = []
    for backend in ("numpy", "onnxruntime"):
        model = BundleModel(open_backend(backend, bundle))
        model.prefill(prompt)
        logits.append(model.step(np.full((2, 2), 10), np.array([5.0, 3.0], np.float32)))
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)


def test_too_large_for_float16(checkpoint: Path, tmp_path: Path) -> None:
    values = load_file(checkpoint / "model.safetensors")
    values["layers.1.moe.experts.2.up_proj.weight"][3, 3] = 1e5
    save_file(values, checkpoint / "model.safetensors")
    result = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "bundle"), "--precision", "fp16"])
    assert isinstance(result.exception, CheckpointError)
    assert str(result.exception) == (
        f"{checkpoint}: layers.1.expert.2: gate_up.weight: a value is beyond float16's largest, 65504; "
        "export with --precision bf16 or fp32"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_front_end_and_sampling_come_along(checkpoint: Path, tmp_path: Path) -> None:
    description = json.loads((checkpoint / "config.json").read_text())
    description["sampling"] = {"music": SamplingConfig(guidance_scale=10.0).to_dict()}
    (checkpoint / "config.json").write_text(json.dumps(description))
    (checkpoint / "frontend" / "data").mkdir(parents=True)
    (checkpoint / "frontend" / "frontend.json").write_text("{}")
    (checkpoint / "frontend" / "data" / "lexicon.txt").write_text("ONE W AH N\n")
    export_bundle(checkpoint, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.sampling == {"music": SamplingConfig(guidance_scale=10.0)}
    assert bundle.frontend_dir is not None
    assert bundle.checked("frontend/data/lexicon.txt").read_text() == "ONE W AH N\n"


def test_codec_comes_along(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(ENCODEC, checkpoint / "codec")
    with pytest.raises(CheckpointError, match="codes a codebook, the model speaks 8"):
        export_bundle(checkpoint, tmp_path / "bundle")
    shutil.rmtree(checkpoint)
    size = json.loads((ENCODEC / "config.json").read_text())["codebook_size"]
    write_random_checkpoint(checkpoint, tiny_config(codebook_size=size))
    shutil.copytree(ENCODEC, checkpoint / "codec")
    result = export_bundle(checkpoint, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert result.num_graphs == len(bundle.graphs) and {"codec_encoder", "codec_decoder"} < set(bundle.graphs)
    assert bundle.codec is not None and bundle.codec["num_codebooks"] == 2, "as many as the model speaks"
    assert len(list(bundle.check_all())) == len(bundle.files)


def test_needs_no_torch(checkpoint: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from unimoe.cli.export import export\n"
        "export(sys.argv[1:], standalone_mode=False)\n"
        "import unimoe.parity.checkpoint\n"
        "assert not any(name.split('.')[0] == 'torch' for name in sys.modules)"
    )
    result = python(code, checkpoint, tmp_path / "bundle")
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path / 'bundle'}: 11 graphs" in result.stdout and "deviation from the oracle" in result.stdout


def test_memory_is_about_one_graph(tmp_path: Path) -> None:
    """Six layers take no more memory than the largest part of one."""
    config = tiny_config(
        num_layers=6, hidden_size=64, routed_intermediate_size=512, text_vocab_size=20_000, num_routed_experts=3
    )
    folder = write_random_checkpoint(tmp_path / "checkpoint", config)
    largest = 4 * 3 * 64 * 512
    total = sum(4 * int(np.prod(shape)) for shape in tensor_shapes(config).values())
    assert total > 20 * largest
    export_bundle(folder, tmp_path / "warm")
    tracemalloc.start()
    export_bundle(folder, tmp_path / "bundle")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * largest


def test_without_an_engine_it_says_so(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "engine_available", lambda: False)
    result = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "bundle")])
    assert result.exit_code == 0
    assert "not compared with the oracle: ONNX Runtime is not installed" in result.stdout
    result = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "bundle"), "--force", "--json"])
    assert json.loads(result.stdout)["largest_error"] is None


def test_wrong_graph_is_caught(checkpoint: Path, tmp_path: Path) -> None:
    """A graph over one expert's weights does not compute another expert."""
    export_bundle(checkpoint, tmp_path / "bundle")
    name, path = "layers.0.expert.1", tmp_path / "bundle/layers/00/expert_1.onnx"
    other = TensorFile(tmp_path / "bundle/layers/00/expert_2.safetensors")
    with pytest.raises(GraphError, match=r"new_accumulator_NC differs from the oracle by"):
        check_graph(path, name, tiny_config(), other)


def test_bad_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        export_bundle(tmp_path / "nowhere", tmp_path / "bundle")
    model = tiny_config(hidden_size=32).to_dict()
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": model, "sampling": {}}
    (checkpoint / "config.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="tensors do not fit the configuration"):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
