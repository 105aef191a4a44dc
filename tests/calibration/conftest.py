"""A bundle that speaks and plays: random weights, a front end of a few words, a codec of a few kilobytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.runtime.frontend.small_frontend import write_frontend
from unimoe_calibration.data import ItemReader, Sample, read_data
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, Bundle, open_bundle

CODEC = Path(__file__).parents[1] / "vectors/encodec_small/codec"
PROMPTS = [
    {"task": "speech", "text": "the cat", "voice": "ann"},
    {"task": "speech", "text": "hello", "voice": "bob"},
    {"task": "speech", "text": "a cat"},
    {"task": "music", "text": "flute, 120 bpm: C4 E4"},
    {"task": "music", "text": "C4", "voice": "piano"},
]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("talking")
    checkpoint = folder / "checkpoint"
    num_tokens = len(json.loads((write_frontend(checkpoint / "frontend") / "frontend.json").read_text())["tokens"])
    codec = json.loads((CODEC / "config.json").read_text())
    config = tiny_config(
        text_vocab_size=num_tokens, num_codebooks=codec["num_codebooks"], codebook_size=codec["codebook_size"],
        delay_pattern=(0, 1, 2), hidden_size=32, routed_intermediate_size=32, shared_intermediate_size=32,
        max_positions=300,
    )  # fmt: skip
    write_random_checkpoint(checkpoint, config)
    shutil.copytree(CODEC, checkpoint / "codec")
    description = json.loads((checkpoint / "config.json").read_text())
    sampling = {"guidance_scale": 1.5, "temperature": 0.8, "top_k": 8, "min_steps": 0, "max_steps": 60}
    description["sampling"] = {"speech": sampling, "music": sampling}
    (checkpoint / "config.json").write_text(json.dumps(description))
    (checkpoint / CALIBRATION_PROMPTS).parent.mkdir()
    (checkpoint / CALIBRATION_PROMPTS).write_text("".join(json.dumps(line) + "\n" for line in PROMPTS))
    export_bundle(checkpoint, folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture(scope="session")
def one_layer_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A language model alone, of one layer, with biases."""
    folder = tmp_path_factory.mktemp("calibration")
    config = tiny_config(
        hidden_size=64, head_dim=16, routed_intermediate_size=96, shared_intermediate_size=64, num_layers=1,
        qkv_bias=True,
    )  # fmt: skip
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture(scope="session")
def two_expert_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A language model alone, of two layers with two routed experts each."""
    folder = tmp_path_factory.mktemp("bundle")
    config = tiny_config(hidden_size=64, routed_intermediate_size=64, codebook_size=32, num_routed_experts=2)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture(scope="session")
def two_expert_samples(two_expert_bundle: Bundle) -> list[Sample]:
    """One item of the default calibration set of `two_expert_bundle`."""
    with ItemReader(two_expert_bundle) as reader:
        return [reader.read(item) for item in read_data(None, two_expert_bundle).items[:1]]
