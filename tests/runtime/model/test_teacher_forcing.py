"""Teacher forcing in one pass gives the results of decoding step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.teacher_forcing import forced_prompt
from unimoe_runtime.synthesis.language_model import BundleModel

VOICE_PK = np.array([[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    "changes", [{}, {"mrope_sections": (2, 1, 1), "delay_pattern": (0, 3)}], ids=["plain", "mrope"]
)
@pytest.mark.parametrize("voice", [False, True], ids=["text", "voice"])
def test_one_pass_is_as_many_steps(tmp_path: Path, changes: dict[str, object], voice: bool) -> None:
    config = tiny_config(**changes)
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", config), tmp_path / "bundle")
    model = BundleModel(open_backend("numpy", open_bundle(tmp_path / "bundle")))
    rows = [[7, 9, 9], [4, 9, 8, 6, 1]]
    prompt = Prompt.from_rows(
        rows, codec_ids_PK=VOICE_PK if voice else None, placeholder_id=9 if voice else None, paired=True
    )
    if config.mrope_sections:
        prompt = prompt_with_three_axes(prompt)
    codes_FK = np.random.default_rng(0).integers(config.codebook_size, size=(6, 2))

    rows_RK = delay_codes(codes_FK, config)[:-1]
    model.prefill(prompt)
    stepped = [
        model.step(np.repeat(row_K[None], 2, axis=0), prompt.first_position_B + np.float32(index))
        for index, row_K in enumerate(rows_RK)
    ]
    forced = forced_prompt(prompt, codes_FK, config)
    model.prefill(forced)
    length = forced.text_ids_BT.shape[1]
    tokens = np.arange(2)[:, None] * length + np.arange(length - len(rows_RK), length)
    at_once = model.logits(tokens.ravel()).reshape(2, len(rows_RK), *stepped[0].shape[1:])
    np.testing.assert_allclose(at_once, np.stack(stepped, axis=1), atol=2e-5)
    np.testing.assert_array_equal(forced.first_position_B, prompt.first_position_B + len(rows_RK))


def prompt_with_three_axes(prompt: Prompt) -> Prompt:
    return replace(prompt, positions=np.broadcast_to(prompt.positions, (3, *prompt.positions.shape)))


def test_codes_that_do_not_fit_are_one_line() -> None:
    codes_FK = np.zeros((4, 3), dtype=np.int64)
    with pytest.raises(PromptError, match=r"codes have shape \[4, 3\]; the model needs \[frames, 2\]"):
        forced_prompt(Prompt.from_rows([[1, 2]]), codes_FK, tiny_config())
    with pytest.raises(PromptError, match="takes one utterance; the prompt has 2"):
        forced_prompt(Prompt.from_rows([[1, 2], [3]]), codes_FK[:, :2], tiny_config())
