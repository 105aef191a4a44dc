"""Sampling against the public model's recorded probabilities, and the properties of a draw.

N rows · U utterances · K codebooks · V ids
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.random_checkpoint import tiny_config
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.model.sampling import RandomSteps, candidates, draw, guide, mask_special_ids, may_end, sample

VECTORS = Path(__file__).parents[2] / "vectors"
FILTERS = json.loads((VECTORS / "sampling_filters.json").read_text())
TIED_ROW = 2  # in "ties": three equal maxima; torch's choice among them is arbitrary
CONFIG = tiny_config()


@pytest.mark.parametrize("setting", FILTERS, ids=lambda setting: setting["key"])
def test_recorded_filters(setting: dict[str, object]) -> None:
    vectors = load_file(VECTORS / "sampling_filters.safetensors")
    name = str(setting["key"]).split(".")[0]
    logits_NV = vectors[f"{name}.logits"]
    sampling = SamplingConfig(
        temperature=setting["temperature"], top_p=setting["top_p"], top_k=setting["top_k"]  # type: ignore[arg-type]
    )  # fmt: skip
    ids_NC, probs_NC = candidates(logits_NV, sampling, setting["audio_eos_value"])  # type: ignore[arg-type]
    probs_NV = np.zeros_like(logits_NV)
    np.put_along_axis(probs_NV, ids_NC, probs_NC, axis=1)
    recorded_NV, keep_NV = vectors[f"{setting['key']}.final_probs"], vectors[f"{setting['key']}.keep"]
    if name == "ties":
        tied = np.sort(probs_NV[TIED_ROW])
        np.testing.assert_allclose(tied, np.sort(recorded_NV[TIED_ROW]), atol=1e-6)
        probs_NV, recorded_NV, keep_NV = (np.delete(array, TIED_ROW, 0) for array in (probs_NV, recorded_NV, keep_NV))
    np.testing.assert_allclose(probs_NV, recorded_NV, atol=1e-6)
    np.testing.assert_array_equal(probs_NV > 0, keep_NV)


@pytest.mark.parametrize("case", ["text_cfg0", "text_cfg3", "text_cfg3_eos", "voice_cfg0", "voice_cfg3"])
def test_recorded_guidance_and_masks(case: str) -> None:
    facts = json.loads((VECTORS / "facts.json").read_text())["generate"][case]
    vectors = load_file(VECTORS / f"generate_{case}.safetensors")
    sampling = SamplingConfig(
        guidance_scale=float(facts["params"]["cfg_scale"]),
        eos_factor=facts["params"]["eos_prob_mul_factor"],
        temperature=0.0,
    )
    config = tiny_config(num_codebooks=4, codebook_size=1024, delay_pattern=(0, 2, 3, 4))
    for index in facts["kept_logit_steps"]:
        logits_UKV = guide(vectors[f"raw_codec_logits.step{index}"], True, sampling)
        mask_special_ids(logits_UKV, config, sampling, allow_eos=index >= facts["params"]["min_tokens"])
        np.testing.assert_allclose(logits_UKV, vectors[f"post_logits.step{index}"], atol=1e-4, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([None, 1, 3, 11, 99]),
    st.sampled_from([0.2, 0.9, 1.0]),
    st.sampled_from([0.3, 1.0]),
)
def test_a_draw_is_one_of_the_candidates(seed: int, top_k: int | None, top_p: float, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits_UKV = np.round(rng.standard_normal((2, 2, CONFIG.codec_vocab_size)) * 3).astype(np.float32)
    sampling = SamplingConfig(top_k=top_k, top_p=top_p, temperature=temperature)
    mask_special_ids(logits_UKV, CONFIG, sampling, allow_eos=True)
    before = logits_UKV.copy()
    codes_UK = sample(logits_UKV, sampling, CONFIG.eos_id, np.random.default_rng(seed))
    np.testing.assert_array_equal(logits_UKV, before)
    np.testing.assert_array_equal(codes_UK, sample(before, sampling, CONFIG.eos_id, np.random.default_rng(seed)))
    ids_NC, probs_NC = candidates(before.reshape(4, -1), sampling, CONFIG.eos_id)
    np.testing.assert_allclose(probs_NC.sum(axis=1), 1, atol=1e-5)
    for code, ids_C, probs_C in zip(codes_UK.flatten(), ids_NC, probs_NC, strict=True):
        assert probs_C[ids_C == code] > 0
    for code, row_V in zip(codes_UK.flatten(), before.reshape(4, -1), strict=True):
        assert code != CONFIG.eos_id or row_V.argmax() == CONFIG.eos_id


def test_draws_follow_the_probabilities() -> None:
    logits_UKV = np.log(np.tile(np.array([0.5, 0.25, 0.15, 0.1], np.float32), (20_000, 1, 1)))
    codes_UK = sample(logits_UKV, SamplingConfig(top_k=3), 3, np.random.default_rng(0))
    shares = np.bincount(codes_UK.flatten(), minlength=4) / len(codes_UK)
    np.testing.assert_allclose(shares, np.array([0.5, 0.25, 0.15, 0]) / 0.9, atol=0.015)


def test_zero_temperature_takes_the_largest_and_needs_no_random_numbers() -> None:
    logits_UKV = np.array([[[0, 5, 2, 5], [9, 1, 1, 1]]], np.float32)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert sample(logits_UKV, SamplingConfig(temperature=0.0), 3, rng).tolist() == [[1, 0]]
    assert rng.bit_generator.state == state


def test_random_numbers_of_many_steps_are_those_of_each_step() -> None:
    steps, rng = RandomSteps(np.random.default_rng(4), 3, steps=5), np.random.default_rng(4)
    for _ in range(12):
        found = steps.next()
        np.testing.assert_array_equal(found, 1.0 - rng.random((3, 1)))
        assert found.min() > 0


@given(seed=st.integers(0, 1000), eos_factor=st.sampled_from([0.5, 1.0, 2.0]), top_k=st.sampled_from([None, 3]))
def test_a_draw_without_the_columns_of_a_beaten_eos_is_that_of_the_masked_logits(
    seed: int, eos_factor: float, top_k: int | None
) -> None:
    sampling, eos = SamplingConfig(eos_factor=eos_factor, top_k=top_k), CONFIG.eos_id
    shape = (4, CONFIG.num_codebooks, CONFIG.codec_vocab_size)
    logits_UKV = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    logits_UKV[:, 0, eos] -= 3 * (seed % 2)
    random_N1 = [RandomSteps(np.random.default_rng(seed), 4 * CONFIG.num_codebooks).next()]
    masked_UKV = logits_UKV.copy()
    mask_special_ids(masked_UKV, CONFIG, sampling, allow_eos=True)
    is_beaten_U = masked_UKV[:, 0, eos] <= masked_UKV[:, 0, :eos].max(axis=1)
    assert may_end(logits_UKV, eos, sampling) == np.flatnonzero(~is_beaten_U).tolist()
    if is_beaten_U.all():
        found = draw(logits_UKV[:, :, :eos], sampling, eos, random_N1)
        np.testing.assert_array_equal(found, draw(masked_UKV, sampling, eos, random_N1))


def test_guidance_leaves_the_models_logits_alone() -> None:
    logits_BKV = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    before = logits_BKV.copy()
    for paired, scale in ((True, 2.0), (True, 0.0), (False, 0.0)):
        guided = guide(logits_BKV, paired, SamplingConfig(guidance_scale=scale))
        guided += 1
        np.testing.assert_array_equal(logits_BKV, before)
    guided = guide(logits_BKV, True, SamplingConfig(guidance_scale=2.0))
    np.testing.assert_array_equal(guided, logits_BKV[1:] + 2 * (logits_BKV[1:] - logits_BKV[:1]))


def test_top_k_keeps_the_largest_and_no_more_where_several_are_equal() -> None:
    random = np.random.default_rng(0)
    logits_NV = random.standard_normal((6, 40)).astype(np.float32)
    logits_NV[3] = np.round(logits_NV[3])  # many equal values
    logits_NV[4, 5:] = -np.inf  # fewer finite values than are kept
    ids_NC, probs_NC = candidates(logits_NV, SamplingConfig(temperature=1.0, top_k=7), 39)
    assert ids_NC.shape == probs_NC.shape == (6, 7)
    masked_NV = logits_NV.copy()
    masked_NV[:, 39] = np.where(masked_NV[:, 39] <= masked_NV[:, :39].max(axis=1), -np.inf, masked_NV[:, 39])
    for ids_C, logits_V in zip(ids_NC, masked_NV, strict=True):
        assert (np.diff(ids_C) > 0).all()
        np.testing.assert_array_equal(np.sort(logits_V[ids_C]), np.sort(logits_V)[-7:])
