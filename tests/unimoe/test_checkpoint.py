"""Saving and loading: the same model comes back, in every precision, and a failed save leaves the old one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from unimoe import checkpoint as checkpoint_module
from unimoe.checkpoint import CheckpointParts, load_model, save_checkpoint, tensor_views
from unimoe.config import SamplingConfig, preset
from unimoe.model import Layer, UniMoE
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS
from unimoe_runtime.checkpoint.folder import open_checkpoint, tensor_shapes
from unimoe_runtime.errors import CheckpointError, OutputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    model = UniMoE(preset("tiny", num_shared_experts=2, weighting="sparsemixer"))
    sampling = {"speech": SamplingConfig(temperature=0.5, min_steps=3)}
    save_checkpoint(tmp_path / "run" / "model", model, sampling=sampling, provenance={"step": 7}, dtype=dtype)
    opened = open_checkpoint(tmp_path / "run" / "model")
    assert opened.model == model.config
    assert opened.sampling == sampling
    assert opened.provenance == {"step": 7}
    loaded = load_model(opened)
    assert not loaded.training
    for (name, saved), parameter in zip(model.named_parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(parameter, saved.to(dtype).float(), atol=0, rtol=0, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_routed_experts": 0, "num_null_experts": 0, "qkv_bias": False},
        {"num_shared_experts": 0},
        {"num_shared_experts": 3, "weighting": "sparsemixer"},
    ],
)
def test_names_and_shapes_are_those_of_the_format(changes: dict[str, object]) -> None:
    model = UniMoE(preset("tiny", **changes))
    views = tensor_views(model)
    assert {name: tuple(view.shape) for name, view in views.items()} == tensor_shapes(model.config)
    assert sum(view.numel() for view in views.values()) == sum(p.numel() for p in model.parameters())


def test_views_write_through_to_the_model() -> None:
    model = UniMoE(preset("tiny"))
    tensor_views(model)["layers.1.moe.experts.2.up_proj.weight"].fill_(3.0)
    layer = model.layers[1]
    assert isinstance(layer, Layer) and layer.moe.experts is not None
    assert (layer.moe.experts.gate_up[2, 24:] == 3.0).all()


def test_saving_replaces_a_checkpoint_and_copies_codec_and_frontend(tmp_path: Path) -> None:
    codec, frontend = tmp_path / "codec_source", tmp_path / "frontend_source"
    for folder, name in ((codec, "config.json"), (frontend, "frontend.json")):
        folder.mkdir()
        (folder / name).write_text("{}")
    model = UniMoE(preset("tiny"))
    requests = [{"task": "speech", "text": "one two", "voice": "ann"}, {"task": "music", "text": "piano: C4"}]
    for step in (1, 2):
        parts = CheckpointParts(codec_dir=codec, frontend_dir=frontend, calibration=requests)
        save_checkpoint(tmp_path / "m", model, parts, provenance={"step": step})
    opened = open_checkpoint(tmp_path / "m")
    assert opened.provenance == {"step": 2}
    assert opened.codec_dir and opened.frontend_dir
    assert [json.loads(line) for line in (tmp_path / "m" / CALIBRATION_PROMPTS).read_text().splitlines()] == requests
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codec_source", "frontend_source", "m"]


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = UniMoE(preset("tiny"))
    save_checkpoint(tmp_path / "m", model, provenance={"step": 1})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save", full_disk)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        save_checkpoint(tmp_path / "m", model, provenance={"step": 2})
    assert open_checkpoint(tmp_path / "m").provenance == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_refuses_to_replace_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(OutputError, match="is no checkpoint"):
        save_checkpoint(tmp_path, UniMoE(preset("tiny")))


def test_loading_names_the_tensor_that_does_not_fit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", UniMoE(preset("tiny")))
    config = tmp_path / "m" / "config.json"
    config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(CheckpointError, match=r"missing layers\.2\.attention_norm\.weight"):
        load_model(tmp_path / "m")


def test_large_weights_lie_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = UniMoE(preset("tiny"))
    monkeypatch.setattr(checkpoint_module, "LARGEST_SHARD", 20_000)
    save_checkpoint(tmp_path / "made", model)
    shards = sorted((tmp_path / "made").glob("model-*.safetensors"))
    assert len(shards) > 2 and not (tmp_path / "made" / "model.safetensors").exists()
    loaded = load_model(tmp_path / "made")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0)
