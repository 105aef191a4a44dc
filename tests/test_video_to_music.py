"""Video to music: the torch model and the exported bundle repeat recorded runs, and the video changes the result.

B rows · T positions · V video tokens · C channels · K codebooks
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.unimoe.public_aux_loss import public_aux_loss
from unimoe.checkpoint import load_model
from unimoe.generate import TorchLanguageModel
from unimoe.loss import codec_losses, total_loss
from unimoe.vision import load_vision
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.numpy.ops import rms_norm
from unimoe_runtime.backends.protocol import Backend, Forward
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, CheckpointError
from unimoe_runtime.model.generation import LanguageModel, Prompt, generate
from unimoe_runtime.model.mrope import video_positions
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.vision.tower import BundleVision, VideoFeatures, VisionConfig, tower_inputs
from unimoe_runtime.vision.video import Video

VECTORS = Path(__file__).parent / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
RECORDED = load_file(VECTORS / "video_mrope.safetensors")
MASK_BT = RECORDED["attention_mask"] == 1
Run = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


@pytest.fixture(scope="module", params=["onnxruntime", "numpy"])
def backend(request: pytest.FixtureRequest, reference_bundle: Path) -> Backend:
    return open_backend(request.param, open_bundle(reference_bundle))


def recorded_prompt(run: Run, config: VisionConfig) -> Prompt:
    """The recorded prompt of two rows, one clip each. In the recorded tower every patch attends to both clips."""
    patches_PM = load_file(VECTORS / "vision.safetensors")["pixel_values_videos"]
    grids = [tuple(grid) for grid in RECORDED["video_grid_thw"].tolist()]
    inputs, order_V = tower_inputs(patches_PM, grids, config)
    inputs["window_mask_11PP"] = inputs["full_mask_11PP"] = np.ones_like(inputs["full_mask_11PP"])
    embeddings_VC = np.empty((len(order_V), config.out_hidden_size), np.float32)
    embeddings_VC[order_V] = run("vision", inputs)["embeddings_VC"]
    positions_3BT, first_position_B = video_positions(RECORDED["input_ids"], MASK_BT, grids, [1.0, 1.0], config)
    return Prompt(
        text_ids_BT=RECORDED["input_ids"],
        mask_BT=MASK_BT,
        positions=positions_3BT,
        first_position_B=first_position_B,
        video_embeddings_VC=embeddings_VC,
        video_token_id=config.video_token_id,
    )


class Keeping(WrappedBackend):
    """A backend that keeps its last started `Forward`."""

    forward: Forward | None = None

    def start(self, num_rows: int) -> Forward:
        self.forward = super().start(num_rows)
        return self.forward


def test_bundle_reads_video_and_text_as_recorded(backend: Backend, reference_checkpoint: Path) -> None:
    vision = backend.bundle.vision
    assert vision is not None and vision.to_dict() == backend.bundle.manifest["vision"]
    prompt = recorded_prompt(backend.run, vision)
    keeping = Keeping(backend)
    model = BundleModel(keeping)
    model.prefill(prompt)
    rows, length = MASK_BT.shape
    last_M = (np.arange(rows)[:, None] * length + np.arange(length - 3, length)).ravel()
    np.testing.assert_allclose(
        model.logits(last_M).reshape(RECORDED["forward.codec_logits_last3"].shape),
        RECORDED["forward.codec_logits_last3"],
        **TOLERANCE,
    )
    assert keeping.forward is not None
    norm_C = open_checkpoint(reference_checkpoint).tensor("final_norm.weight")
    hidden_NC = rms_norm(keeping.forward.hidden(), norm_C, backend.bundle.model.rms_norm_eps)
    recorded_NC = RECORDED["forward.last_hidden_state"].reshape(hidden_NC.shape)
    np.testing.assert_allclose(hidden_NC[MASK_BT.ravel()], recorded_NC[MASK_BT.ravel()], **TOLERANCE)


@torch.no_grad()
def test_torch_reads_video_and_text_as_recorded(reference_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(reference_checkpoint)
    tower, model = load_vision(checkpoint), load_model(checkpoint)
    prompt = recorded_prompt(tower.run, tower.config)
    embedded_BTC = model.embed(
        torch.from_numpy(prompt.text_ids_BT),
        video_embeddings_VC=torch.from_numpy(prompt.video_embeddings_VC),
        video_token_id=tower.config.video_token_id,
    )
    output = model(embedded_BTC, torch.from_numpy(prompt.positions), torch.from_numpy(MASK_BT))
    hidden_BTC = output.hidden_BTC.numpy()
    np.testing.assert_allclose(hidden_BTC[MASK_BT], RECORDED["forward.last_hidden_state"][MASK_BT], **TOLERANCE)
    logits_BTKV = model.logits(output.hidden_BTC)
    np.testing.assert_allclose(logits_BTKV[:, -3:], RECORDED["forward.codec_logits_last3"], **TOLERANCE)
    # The public forward() shifts: the logits of one position are for the labels of the next.
    labels_BTK = torch.from_numpy(RECORDED["forward.codec_labels"])
    mask_BT = torch.from_numpy(MASK_BT)
    aux_loss = torch.stack([public_aux_loss(r.aux_loss, r.picked_NE, mask_BT) for r in output.routings]).mean()
    np.testing.assert_allclose(aux_loss, RECORDED["forward.aux_balance_loss"], **TOLERANCE)
    loss = total_loss(codec_losses(logits_BTKV[:, :-1], labels_BTK[:, 1:]), aux_loss, model.config, step=0)
    np.testing.assert_allclose(loss, RECORDED["forward.loss"], **TOLERANCE)


def clip(seed: int, num_frames: int = 4) -> Video:
    frames = np.random.default_rng(seed).integers(256, size=(num_frames, 24, 32, 3), dtype=np.uint8)
    return Video(frames_FHWC=frames, seconds_per_frame=1.0)


def pair_with(features: VideoFeatures | None, config: VisionConfig) -> Prompt:
    """A guided pair of rows with a shared clip or none."""
    video = []
    if features is not None:
        tokens = config.num_tokens(features.grid)
        video = [config.vision_start_id, *[config.video_token_id] * tokens, config.vision_end_id]
    ids_BT = np.array([[5, *video, 60, 61, 295], [5, *video, 70, 71, 295]])
    mask_BT = np.ones(ids_BT.shape, bool)
    clips = [] if features is None else [features] * 2
    positions_3BT, first_position_B = video_positions(
        ids_BT, mask_BT, [c.grid for c in clips], [c.seconds_per_grid for c in clips], config
    )
    return Prompt(
        text_ids_BT=ids_BT,
        mask_BT=mask_BT,
        positions=positions_3BT,
        first_position_B=first_position_B,
        video_embeddings_VC=np.concatenate([c.embeddings_VC for c in clips]) if clips else None,
        video_token_id=config.video_token_id,
        paired=True,
    )


def codes_of(model: LanguageModel, prompt: Prompt, config: Any) -> np.ndarray:
    sampling = SamplingConfig(guidance_scale=3.0, temperature=0.0, min_steps=40, max_steps=60)
    return np.stack([step.codes_UK[0] for step in islice(generate(model, prompt, config, sampling), 16)])


def test_the_video_changes_the_music(backend: Backend) -> None:
    """Greedy codes differ between no video, two videos, and one of them with its frames reordered."""
    config = backend.bundle.vision
    assert config is not None
    vision = BundleVision(backend.bundle.manifest["vision"], backend.run)
    backwards = Video(frames_FHWC=clip(1).frames_FHWC[::-1], seconds_per_frame=1.0)
    features = [None, *(vision.embed(video) for video in (clip(1), clip(2), backwards))]
    codes = [codes_of(BundleModel(backend), pair_with(each, config), backend.bundle.model) for each in features]
    for index, first in enumerate(codes):
        for second in codes[:index]:
            assert (first != second).any()
    again = codes_of(BundleModel(backend), pair_with(vision.embed(clip(1)), config), backend.bundle.model)
    np.testing.assert_array_equal(again, codes[1])


def test_torch_and_bundle_make_the_same_of_a_video(backend: Backend, reference_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(reference_checkpoint)
    tower, model = load_vision(checkpoint), load_model(checkpoint)
    description = backend.bundle.manifest["vision"]
    by_torch = BundleVision(tower.config.to_dict(), tower.run).embed(clip(3, num_frames=5))
    by_bundle = BundleVision(description, backend.run).embed(clip(3, num_frames=5))
    assert by_torch.grid == by_bundle.grid == (3, 6, 8)
    np.testing.assert_allclose(by_bundle.embeddings_VC, by_torch.embeddings_VC, **TOLERANCE)
    torch_codes = codes_of(TorchLanguageModel(model), pair_with(by_torch, tower.config), model.config)
    bundle_codes = codes_of(BundleModel(backend), pair_with(by_bundle, tower.config), model.config)
    np.testing.assert_array_equal(bundle_codes, torch_codes)


def test_a_published_folder_without_a_tower_makes_a_bundle_without_video(
    reference_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "public"
    shutil.copytree(reference_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_config": None}))
    export_bundle(folder, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.vision is None and "vision" not in bundle.manifest and "vision" not in bundle.graphs
    backend = open_backend("onnxruntime", bundle)
    with pytest.raises(BundleError, match="has no vision tower"):
        BundleVision(bundle.manifest.get("vision"), backend.run)


def test_token_dropping_is_not_exported(reference_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "public"
    shutil.copytree(reference_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["token_drop"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: token_drop is for training"):
        export_bundle(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
