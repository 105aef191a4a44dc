"""Streams that are drawn together get the codes that each gets alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.frontend import PreparedPrompt
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.decoding import Decoding, DecodingLimits, Part
from unimoe_runtime.synthesis.drawing import draw_all
from unimoe_runtime.synthesis.language_model import BundleModel

SAMPLINGS = [
    SamplingConfig(guidance_scale=2.0, temperature=0.7, top_k=4, min_steps=0, max_steps=20),
    SamplingConfig(guidance_scale=2.0, temperature=0.7, top_k=4, min_steps=5, max_steps=30),
    SamplingConfig(guidance_scale=0.0, temperature=1.0, top_k=None, top_p=0.9, eos_factor=0.5, min_steps=0),
    SamplingConfig(guidance_scale=0.0, temperature=0.0, min_steps=0),
]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    folder = tmp_path_factory.mktemp("drawing")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "bundle")
    return open_backend("numpy", open_bundle(folder / "bundle"))


def stream(backend: Backend, index: int) -> Decoding:
    rows = [[1, 2], [3]] if index < 3 else [[1]]
    prompt = Prompt.from_rows(rows, paired=len(rows) == 2)
    prepared = PreparedPrompt(prompt=prompt, expected_frames=None, caption="")
    made = Decoding(
        BundleModel(backend),
        [Part(prepared=prepared, sampling=SAMPLINGS[index])],
        seed=index,
        limits=DecodingLimits(requested=0.0),
    )
    made.begin()
    return made


def test_together_as_alone(backend: Backend) -> None:
    together, apart = ([stream(backend, index) for index in range(4)] for _ in range(2))
    first_rows = [4, 0, 2, 7]
    random = np.random.default_rng(0)
    for _ in range(20):
        logits_RKV = random.standard_normal((9, 2, 11), dtype=np.float32)
        expected = [draw_all(logits_RKV, [one], [row])[0] for one, row in zip(apart, first_rows, strict=True)]
        assert draw_all(logits_RKV, together, first_rows) == expected
