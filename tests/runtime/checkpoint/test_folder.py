"""Opening a checkpoint folder: ours and the published one, precisions, shards, and one line for any error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_runtime.checkpoint.folder import open_checkpoint, tensor_shapes, vision_tensor_shapes
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "model", tiny_config())


@pytest.fixture
def public_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    folder.mkdir()
    for source, name in (("tiny_config.json", "config.json"), ("tiny_model_state.safetensors", "model.safetensors")):
        (folder / name).write_bytes((VECTORS / source).read_bytes())
    return folder


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_ours_opens_with_everything_in_it(folder: Path) -> None:
    opened = open_checkpoint(folder)
    assert opened.model == tiny_config()
    assert (opened.sampling, opened.provenance, opened.codec_dir, opened.frontend_dir) == ({}, {}, None, None)
    stored = load_file(folder / "model.safetensors")
    assert set(opened.locations) == set(stored)
    for name, tensor in stored.items():
        np.testing.assert_array_equal(opened.tensor(name), tensor)
    with pytest.raises(CheckpointError, match="there is no tensor 'lm_head'"):
        opened.tensor("lm_head")


def test_published_folder_has_our_names_and_its_own_sampling(public_folder: Path) -> None:
    opened = open_checkpoint(public_folder)
    assert opened.vision is not None
    shapes = tensor_shapes(opened.model) | vision_tensor_shapes(opened.vision)
    assert {name: opened.tensor(name).shape for name in opened.locations} == shapes
    assert opened.model.weighting == "sparsemixer" and opened.model.mrope_sections == (2, 3, 3)
    assert opened.sampling == {"speech": SamplingConfig(), "music": SamplingConfig(guidance_scale=10, eos_factor=0.6)}
    stored = load_file(public_folder / "model.safetensors")
    np.testing.assert_array_equal(
        opened.tensor("layers.1.moe.shared.1.up_proj.weight"),
        stored["language_model.layers.1.mlp.fixed_real_moe.1.up_proj.weight"],
    )


@pytest.mark.parametrize("without", ["config", "tensors", "both"])
def test_published_folder_without_a_vision_tower(public_folder: Path, without: str) -> None:
    if without != "tensors":
        change_config(public_folder, lambda c: c.pop("vision_config"))
    if without != "config":
        visual = [name for name in load_file(public_folder / "model.safetensors") if name.startswith("visual.")]
        change_tensors(public_folder, lambda t: [t.pop(name) for name in visual])
    opened = open_checkpoint(public_folder)
    assert opened.vision is None and set(opened.locations) == set(tensor_shapes(opened.model))


def test_published_patch_embedding_of_five_axes(public_folder: Path) -> None:
    name = "visual.patch_embed.proj.weight"
    four = load_file(public_folder / "model.safetensors")[name]
    five = four.reshape(four.shape[0], 3, -1, *four.shape[2:])
    change_tensors(public_folder, lambda t: t.update({name: five}))
    np.testing.assert_array_equal(open_checkpoint(public_folder).tensor("vision.patch_embed.weight"), five)
    change_tensors(public_folder, lambda t: t.update({name: five[:, :2]}))
    with pytest.raises(CheckpointError, match=r"visual\.patch_embed\.proj\.weight in model\.safetensors is"):
        open_checkpoint(public_folder)


def test_published_folder_with_half_a_vision_tower(public_folder: Path) -> None:
    change_tensors(public_folder, lambda t: t.pop("visual.merger.ln_q.weight"))
    with pytest.raises(CheckpointError, match=r"missing visual\.merger\.ln_q\.weight"):
        open_checkpoint(public_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["vision_config"].update(out_hidden_size=32), "the vision tower gives 32 channels"),
        (lambda c: c["vision_config"].update(hidden_act="gelu"), "with the activation 'gelu' is not supported"),
        (lambda c: c["vision_config"].update(fullatt_block_indexes=[3]), "full_attention_blocks is (3,)"),
        (lambda c: c.pop("video_token_id"), "it has no field 'video_token_id'"),
        (lambda c: c["vision_config"].update(window_size=4), "window_size is 4; it must be at least 8"),
        (lambda c: c.update(vision_config=[1]), "not a UniMoE-Audio configuration"),
    ],
)
def test_vision_configuration_of_another_model(
    public_folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_config(public_folder, change)
    with pytest.raises(CheckpointError) as problem:
        open_checkpoint(public_folder)
    assert message in str(problem.value) and "\n" not in str(problem.value)


def test_published_folder_in_shards(public_folder: Path) -> None:
    whole = {
        name: open_checkpoint(public_folder).tensor(name).copy() for name in ("final_norm.weight", "codec_head.weight")
    }
    tensors = load_file(public_folder / "model.safetensors")
    (public_folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, public_folder / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = public_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    opened = open_checkpoint(public_folder)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(opened.tensor(name), tensor)
    (public_folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 shards missing: b\.safetensors; download or copy"):
        open_checkpoint(public_folder)
    for broken, message in (({"x": "../b.safetensors"}, "outside of the folder"), ({"x": 3}, "no weight_map")):
        index.write_text(json.dumps({"weight_map": broken}))
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(public_folder)


FINAL = "final_norm.weight"
PUBLIC_FINAL = "language_model.norm.weight"
# The damage to the folder, and the text that the one line must contain beside the folder's path.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: cannot be read (No such file or directory)"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: cannot be read (No such file"),
    "half a codec": (lambda f: (f / "codec").mkdir(), "codec: has no config.json; complete the folder"),
    "half a front end": (lambda f: (f / "frontend").mkdir(), "frontend: has no frontend.json; complete the folder"),
    "not json": (lambda f: (f / "config.json").write_text("{"), "config.json: not valid JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "config.json: must hold a JSON object"),
    "another model": (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "config.json: neither"),
    "version": (
        lambda f: change_config(f, lambda c: c.update(format_version=2)),
        "config.json: format version 2, this release reads 1; convert it",
    ),
    "no model": (
        lambda f: change_config(f, lambda c: c.pop("model")),
        "config.json: the field 'text_vocab_size' is missing",
    ),
    "model is a list": (
        lambda f: change_config(f, lambda c: c.update(model=[])), "config.json: 'model' must hold a JSON object",
    ),
    "field": (
        lambda f: change_config(f, lambda c: c["model"].update(hidden=3)),
        "config.json: ModelConfig does not know the field 'hidden'",
    ),
    "range": (
        lambda f: change_config(f, lambda c: c["model"].update(top_p=1.5)),
        "config.json: top_p is 1.5; it must be a number above 0, at most 1",
    ),
    "type": (
        lambda f: change_config(f, lambda c: c["model"].update(top_p="high")),
        "config.json: top_p is 'high'; it must be a number",
    ),
    "sampling": (
        lambda f: change_config(f, lambda c: c.update(sampling={"speech": {"top_k": 0}})),
        "config.json: top_k is 0; it must be an integer of at least 1",
    ),
    "sampling is a number": (
        lambda f: change_config(f, lambda c: c.update(sampling={"speech": 1})),
        "config.json: 'speech' must hold a JSON object",
    ),
    "provenance": (
        lambda f: change_config(f, lambda c: c.update(provenance="me")),
        "config.json: 'provenance' must hold a JSON object",
    ),
    "missing": (lambda f: change_tensors(f, lambda t: t.pop(FINAL)), f"missing {FINAL}"),
    "extra": (
        lambda f: change_tensors(f, lambda t: t.update(bias=np.zeros(3))), "extra bias in model.safetensors",
    ),
    "misshapen": (
        lambda f: change_tensors(f, lambda t: t.update({FINAL: t[FINAL][:3]})),
        f"{FINAL} in model.safetensors is [3], must be [16]",
    ),
    "wider config": (
        lambda f: change_config(f, lambda c: c["model"].update(hidden_size=32)),
        "codec_embedding.0.weight in model.safetensors is [11, 16], must be [11, 32]",
    ),
    "truncated": (lambda f: cut(f / "model.safetensors", -10), "model.safetensors: cut off: tensor "),
    "truncated header": (lambda f: cut(f / "model.safetensors", 100), "model.safetensors: not a safetensors file"),
    "empty": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors: not a safetensors file"),
    "header is a list": (lambda f: write_header(f, []), "model.safetensors: not a safetensors file"),
    "header entry": (lambda f: write_header(f, {FINAL: 3}), f"model.safetensors: tensor '{FINAL}' has a damaged"),
    "header offsets": (
        lambda f: write_header(f, {FINAL: {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}),
        f"model.safetensors: tensor '{FINAL}' has a damaged",
    ),
    "unknown type": (
        lambda f: write_header(f, {FINAL: {"dtype": "F4", "shape": [0], "data_offsets": [0, 0]}}),
        f"model.safetensors: tensor '{FINAL}' has a damaged header entry or an unknown type",
    ),
    "bytes": (
        lambda f: write_header(f, {FINAL: {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}),
        f"model.safetensors: tensor '{FINAL}' has 4 bytes where its shape [2] needs 8",
    ),
}  # fmt: skip
PUBLIC_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "field": (lambda f: change_config(f, lambda c: c.pop("codec_delay_pattern")), "no field 'codec_delay_pattern'"),
    "text_config": (lambda f: change_config(f, lambda c: c.update(text_config=3)), "not a UniMoE-Audio configuration"),
    "value": (
        lambda f: change_config(f, lambda c: c["text_config"].update(num_key_value_heads=3)),
        "config.json: num_heads is 4; it must be a multiple of num_kv_heads",
    ),
    "missing": (lambda f: change_tensors(f, lambda t: t.pop(PUBLIC_FINAL)), f"missing {PUBLIC_FINAL}; config"),
    "extra": (
        lambda f: change_tensors(f, lambda t: t.update({"model.x": np.zeros(3)})),
        "tensors do not fit the configuration: extra model.x in model.safetensors; ",
    ),
    "misshapen": (
        lambda f: change_tensors(f, lambda t: t.update({PUBLIC_FINAL: t[PUBLIC_FINAL][:3]})),
        f"{PUBLIC_FINAL} in model.safetensors is [3], must be [64]",
    ),
}  # fmt: skip


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def write_header(folder: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))


def check_one_line(folder: Path, break_it: Callable[[Path], object], message: str) -> None:
    open_checkpoint(folder)
    break_it(folder)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    text = str(caught.value)
    assert text.startswith(str(folder)) and message in text and "\n" not in text


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_names_file_and_fault(folder: Path, fault: str) -> None:
    check_one_line(folder, *FAULTS[fault])


@pytest.mark.parametrize("fault", PUBLIC_FAULTS)
def test_one_line_names_file_and_fault_of_a_published_folder(public_folder: Path, fault: str) -> None:
    check_one_line(public_folder, *PUBLIC_FAULTS[fault])


def test_many_faults_are_counted_not_listed(folder: Path) -> None:
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "experts" in name])
    with pytest.raises(CheckpointError, match=r"missing .* and 19 more;"):
        open_checkpoint(folder)
