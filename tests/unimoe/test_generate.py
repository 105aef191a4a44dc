"""Generation with the torch model: the public model's recorded codes and logits, and the sequence of calls.

B rows · U utterances · T positions · K codebooks · V ids of one codebook
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from unimoe.config import SamplingConfig, preset
from unimoe.generate import Prompt, TorchLanguageModel, collect_frames, generate
from unimoe.model import UniMoE
from unimoe_runtime.model.sampling import guide, mask_special_ids

VECTORS = Path(__file__).parents[1] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
PLACEHOLDER = 294
PAD = 299
FACTS = json.loads((VECTORS / "facts.json").read_text())["generate"]


def recorded_prompt(vectors: dict[str, NDArray[np.int64]]) -> Prompt:
    """The recorded rows, split and joined again with our padding."""
    mask_BT = vectors["attention_mask"] > 0
    codec_ids_PK = vectors.get("codec_input_ids")
    prompt = Prompt.from_rows(
        [ids_T[mask_T] for ids_T, mask_T in zip(vectors["input_ids"], mask_BT, strict=True)],
        codec_ids_PK=codec_ids_PK,
        placeholder_id=None if codec_ids_PK is None else PLACEHOLDER,
        pad_id=PAD,
        paired=True,
    )
    np.testing.assert_array_equal(prompt.text_ids_BT, vectors["input_ids"])
    np.testing.assert_array_equal(prompt.mask_BT, mask_BT)
    return prompt


class Recording(TorchLanguageModel):
    """Records the logits of every step."""

    def __init__(self, model: UniMoE) -> None:
        super().__init__(model)
        self.logits: list[NDArray[np.float32]] = []

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        self.logits.append(super().step(codes_BK, position_B))
        return self.logits[-1]


@pytest.mark.slow
@pytest.mark.parametrize("case", list(FACTS))
def test_recorded_generation(reference_model: UniMoE, case: str) -> None:
    facts, vectors = FACTS[case], load_file(VECTORS / f"generate_{case}.safetensors")
    parameters, config = facts["params"], reference_model.config
    sampling = SamplingConfig(
        guidance_scale=float(parameters["cfg_scale"]),
        temperature=0.0,
        top_k=parameters["cfg_filter_top_k"],
        top_p=parameters["top_p"],
        eos_factor=parameters["eos_prob_mul_factor"],
        min_steps=parameters["min_tokens"],
        max_steps=parameters["max_tokens"],
    )
    model = Recording(reference_model)
    steps = list(generate(model, recorded_prompt(vectors), config, sampling))
    assert len(steps) == facts["steps"]
    assert steps[-1].num_frames_U.tolist() == facts["lengths"] == vectors["lengths"].tolist()
    delayed_UTK = np.stack([step.codes_UK for step in steps], axis=1)
    np.testing.assert_array_equal(delayed_UTK, vectors["dec_output_generated_tokens"][:, 1:])
    for utterance, frames_TK in enumerate(collect_frames(iter(steps))):
        np.testing.assert_array_equal(frames_TK, vectors[f"reverted_codes.{utterance}"])
        length = facts["lengths"][utterance] + max(config.delay_pattern)
        np.testing.assert_array_equal(delayed_UTK[utterance, :length], vectors["generated_codes"][utterance, :length])
    for index, logits_BKV in enumerate(model.logits):
        guided_UKV = guide(logits_BKV, True, sampling)
        mask_special_ids(guided_UKV, config, sampling, allow_eos=index >= sampling.min_steps)
        if index in facts["kept_logit_steps"]:
            np.testing.assert_allclose(logits_BKV, vectors[f"raw_codec_logits.step{index}"], **TOLERANCE)
            np.testing.assert_allclose(guided_UKV, vectors[f"post_logits.step{index}"], **TOLERANCE)
        second_UK, first_UK = np.moveaxis(np.sort(guided_UKV, axis=-1)[..., -2:], -1, 0)
        np.testing.assert_allclose(first_UK - second_UK, vectors["argmax_margin"][index], atol=2e-4)


@pytest.mark.parametrize("kind", ["text", "voice"])
def test_prompt_has_the_recorded_positions(kind: str) -> None:
    vectors = load_file(VECTORS / f"lm_{kind}_prompt.safetensors")
    prompt = recorded_prompt(vectors)
    np.testing.assert_array_equal(prompt.positions, vectors["position_ids"])
    for step, position_B1 in enumerate(vectors["decode.position_ids"]):
        np.testing.assert_array_equal(prompt.first_position_B + step, position_B1[:, 0])


def tiny_model() -> UniMoE:
    torch.manual_seed(0)
    return UniMoE(preset("tiny")).eval()


def test_cached_steps_equal_one_pass_over_everything() -> None:
    """This holds with fractional positions too, which a timeline's front end gives."""
    model = tiny_model()
    positions, first = [[0.5, 3.25, 7.0], [2.0, 4.5, 5.0]], [0.0, 1.5]
    prompt = Prompt.from_rows([[1, 2, 3], [4, 5, 6]], positions=positions, first_positions=first)
    rows_TBK = np.random.default_rng(0).integers(0, 16, (5, 2, 2))
    served = TorchLanguageModel(model)
    served.prefill(prompt)
    found_TBKV = [
        served.step(codes_BK, prompt.first_position_B + np.float32(index)) for index, codes_BK in enumerate(rows_TBK)
    ]
    with torch.no_grad():
        codes_BTK = torch.from_numpy(rows_TBK).transpose(0, 1)
        embedded_BTC = torch.cat(
            [model.embed(torch.from_numpy(prompt.text_ids_BT)), model.embed_codes(codes_BTK)], dim=1
        )
        steps_BT = torch.tensor(first)[:, None] + torch.arange(5.0)
        positions_BT = torch.cat([torch.tensor(positions), steps_BT], dim=1)
        logits_BTKV = model.logits(model(embedded_BTC, positions_BT).hidden_BTC[:, 3:])
    np.testing.assert_allclose(np.stack(found_TBKV, axis=1), logits_BTKV, **TOLERANCE)


@pytest.mark.slow
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """It depends neither on their prompts nor on the padding that those cause."""
    model = tiny_model()
    sampling = SamplingConfig(guidance_scale=0.0, temperature=0.0, min_steps=8, max_steps=12)

    def run(rows: list[list[int]]) -> list[NDArray[np.int64]]:
        return collect_frames(generate(TorchLanguageModel(model), Prompt.from_rows(rows), model.config, sampling))

    rows = [[1, 2, 3], [4], [9, 8, 7, 6, 5]]
    for alone, together in zip([run([row])[0] for row in rows], run(rows), strict=True):
        np.testing.assert_array_equal(alone, together)


def test_a_second_prefill_forgets_the_first() -> None:
    served, prompt = TorchLanguageModel(tiny_model()), Prompt.from_rows([[1, 2, 3]])
    codes_BK = np.zeros((1, 2), dtype=np.int64)
    with pytest.raises(RuntimeError, match="call prefill"):
        served.step(codes_BK, prompt.first_position_B)
    found = []
    for other in (prompt, Prompt.from_rows([[7, 7]] * 2), prompt):
        served.prefill(other)
        found.append(served.step(np.repeat(codes_BK, other.num_rows, axis=0), other.first_position_B))
    np.testing.assert_array_equal(found[0], found[2])
