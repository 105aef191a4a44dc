"""The delay pattern against the public model's recorded layouts.

T frames · R delayed rows · K codebooks
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.random_checkpoint import tiny_config
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.delay_pattern import delay_codes

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "delay.json").read_text())


def undelay_codes(delayed_RK: np.ndarray, delay_pattern: Sequence[int]) -> np.ndarray:
    """Frames [R - max delay, K] of delayed rows that start with the row of frame 0 (no BOS row)."""
    delayed_RK = np.asarray(delayed_RK, dtype=np.int64)
    num_frames = max(delayed_RK.shape[0] - max(delay_pattern), 0)
    return np.stack([delayed_RK[d : d + num_frames, c] for c, d in enumerate(delay_pattern)], axis=1)


@pytest.mark.parametrize("case", list(CASES))
def test_recorded_layouts(case: str) -> None:
    facts, vectors = CASES[case], load_file(VECTORS / "delay.safetensors")
    pattern = tuple(facts["delay_pattern"])
    config = tiny_config(num_codebooks=len(pattern), codebook_size=facts["eos_value"], delay_pattern=pattern)
    codes_UTK = vectors[f"{case}.codes"]
    for frames in (1, 7, 25):
        recorded_RK = vectors[f"{case}.preprocess_codec_T{frames}"]
        np.testing.assert_array_equal(delay_codes(codes_UTK[0, :frames], config), recorded_RK)
    for utterance, codes_TK in enumerate(codes_UTK):
        num_frames = len(codes_TK)
        rows_RK = delay_codes(codes_TK, config)[1:]
        np.testing.assert_array_equal(rows_RK[:num_frames], vectors[f"{case}.delayed"][utterance])
        np.testing.assert_array_equal(undelay_codes(rows_RK, pattern), codes_TK)
        # The public helpers keep the length and repeat at the end; the complete frames are equal.
        whole = num_frames - max(pattern)
        for source, result in ((codes_TK, "reverted_from_codes"), (rows_RK[:num_frames], "reverted_from_delayed")):
            np.testing.assert_array_equal(
                undelay_codes(source, pattern), vectors[f"{case}.{result}"][utterance, :whole]
            )
        length = vectors[f"{case}.generate_output_lengths"][utterance]
        recorded_TK = vectors[f"{case}.generate_output.{utterance}"]
        np.testing.assert_array_equal(undelay_codes(codes_TK, pattern)[:length], recorded_TK[:whole])
    prompts = [codes_UTK[0, :5], codes_UTK[0, :0], codes_UTK[1, :9]]
    for utterance, codes_TK in enumerate(prompts):
        recorded_RK = vectors[f"{case}.prepare_prompts"][utterance]
        rows_RK = delay_codes(codes_TK, config)
        known_RK = recorded_RK[: len(rows_RK)] >= 0
        np.testing.assert_array_equal(rows_RK[known_RK], recorded_RK[: len(rows_RK)][known_RK])
        # Codes that a prompt does not know yet are EOS or PAD in a whole recording.
        assert (rows_RK[~known_RK] >= config.eos_id).all()
        assert facts["prefill_steps_prompts"][utterance] == len(codes_TK) + 1
    for recorded_RK in vectors[f"{case}.prepare_none"]:
        rows_RK = delay_codes(codes_UTK[0, :0], config)
        assert rows_RK.shape == recorded_RK.shape
        np.testing.assert_array_equal(np.where(recorded_RK >= 0, rows_RK, -1), recorded_RK)


@pytest.mark.parametrize("case", list(CASES))
def test_recorded_indices(case: str) -> None:
    """Codes equal to their frame number show the frame of each place."""
    facts, vectors = CASES[case], load_file(VECTORS / "delay.safetensors")
    pattern = tuple(facts["delay_pattern"])
    config = tiny_config(num_codebooks=len(pattern), codebook_size=facts["eos_value"], delay_pattern=pattern)
    num_utterances, num_frames, num_codebooks = vectors[f"{case}.codes"].shape
    whole = num_frames - max(pattern)
    frames_TK = np.broadcast_to(np.arange(num_frames)[:, None], (num_frames, num_codebooks))
    delayed_TK = delay_codes(frames_TK, config)[1 : num_frames + 1]
    reverted_TK = undelay_codes(frames_TK, pattern)
    for utterance in range(num_utterances):
        recorded_TK = vectors[f"{case}.delay_t_idx"][utterance]
        np.testing.assert_array_equal(delayed_TK, np.where(recorded_TK < 0, config.bos_id, recorded_TK))
        np.testing.assert_array_equal(reverted_TK, vectors[f"{case}.revert_t_idx"][utterance, :whole])
    # The same as [utterance, frame, codebook] triples, with frames before the first clamped to it.
    shape = (num_utterances, num_frames, num_codebooks)
    utterance_UTK, _, codebook_UTK = np.indices(shape)
    clamped_TK = np.where(delayed_TK == config.bos_id, 0, delayed_TK)
    for name, frame_TK, length in (("delay", clamped_TK, num_frames), ("revert", reverted_TK, whole)):
        recorded = vectors[f"{case}.{name}_indices"].reshape(*shape, 3)[:, :length]
        triples = np.stack(
            [utterance_UTK[:, :length], np.broadcast_to(frame_TK, recorded.shape[:3]), codebook_UTK[:, :length]],
            axis=-1,
        )
        np.testing.assert_array_equal(triples, recorded)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_undelay_is_the_inverse(num_frames: int, pattern: list[int]) -> None:
    config = tiny_config(num_codebooks=len(pattern), delay_pattern=tuple(pattern))
    codes_TK = np.random.default_rng(num_frames).integers(0, 8, (num_frames, len(pattern)))
    rows_RK = delay_codes(codes_TK, config)
    assert rows_RK.shape == (num_frames + max(pattern) + 1, len(pattern))
    assert (rows_RK[0] == config.bos_id).all()
    np.testing.assert_array_equal(undelay_codes(rows_RK[1:], pattern), codes_TK)


def test_wrong_number_of_codebooks() -> None:
    with pytest.raises(PromptError, match=r"codes have shape \[4, 3\]; the model needs \[frames, 2\]"):
        delay_codes(np.zeros((4, 3), dtype=np.int64), tiny_config())
