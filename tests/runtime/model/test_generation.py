"""The generation loop over a scripted model: EOS, delays, guidance, limits, seeds.

U utterances · B rows · K codebooks · V ids of one codebook
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.random_checkpoint import tiny_config
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.generation import Prompt, collect_frames, generate

GREEDY = SamplingConfig(guidance_scale=0.0, temperature=0.0, min_steps=0, max_steps=50)


class Script:
    """A model with given codes: step s has `s mod codebook_size` in every codebook, or EOS at the given ends."""

    def __init__(self, config: ModelConfig, ends: list[int], random: bool = False) -> None:
        self.config, self.ends, self.random = config, ends, random
        self.inputs: list[NDArray[np.int64]] = []
        self.positions: list[NDArray[np.float32]] = []
        self.prompts: list[Prompt] = []

    def prefill(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        self.inputs, self.positions = [], []

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        index = len(self.inputs)
        self.inputs.append(codes_BK.copy())
        self.positions.append(position_B.copy())
        shape = (len(codes_BK), self.config.num_codebooks, self.config.codec_vocab_size)
        logits_BKV = np.zeros(shape, dtype=np.float32)
        if not self.random:
            logits_BKV[:, :, index % self.config.codebook_size] = 5
        rows_per_utterance = len(codes_BK) // len(self.ends)
        for utterance, end in enumerate(self.ends):
            if end == index:
                logits_BKV[utterance * rows_per_utterance :][:rows_per_utterance, 0, self.config.eos_id] = 9
        return logits_BKV


def prompt_of(num_rows: int, *, paired: bool = False) -> Prompt:
    return Prompt.from_rows([[1, 2, 3]] * num_rows, paired=paired)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.integers(6, 30),
)
def test_every_utterance_gets_exactly_its_frames(pattern: list[int], ends: list[int], max_steps: int) -> None:
    pattern[0] = 0
    config = tiny_config(num_codebooks=len(pattern), delay_pattern=tuple(pattern), codebook_size=64)
    sampling = SamplingConfig(guidance_scale=0.0, temperature=0.0, min_steps=0, max_steps=max_steps)
    steps = list(generate(Script(config, ends), prompt_of(len(ends)), config, sampling))
    limit = max_steps - 1 - max(pattern)
    frames = collect_frames(iter(steps))
    assert len(steps) <= max_steps
    for utterance, end in enumerate(ends):
        length = min(end, limit)
        expected_TK = np.arange(length)[:, None] + np.array(pattern)[None]
        np.testing.assert_array_equal(frames[utterance], expected_TK)
        assert steps[-1].num_frames_U[utterance] == length
        # A frame is released as soon as its last codebook is known.
        emitted = [step.index for step in steps if step.has_frame_U[utterance]]
        assert emitted == list(range(max(pattern), max(pattern) + length))


def test_rows_carry_bos_before_and_eos_and_pad_after_the_codes() -> None:
    config = tiny_config(num_codebooks=3, delay_pattern=(0, 1, 3))
    model = Script(config, [4])
    rows_RK = np.concatenate([s.codes_UK for s in generate(model, prompt_of(1), config, GREEDY)])
    bos, eos, pad = config.bos_id, config.eos_id, config.pad_id
    assert rows_RK.tolist() == [
        [0, bos, bos], [1, 1, bos], [2, 2, bos], [3, 3, 3], [eos, 4, 4], [pad, eos, 5], [pad, pad, 6],
    ]  # fmt: skip
    assert model.inputs[0].tolist() == [[bos, bos, bos]]
    np.testing.assert_array_equal(np.concatenate(model.inputs[1:]), rows_RK[:-1])
    assert [position.tolist() for position in model.positions[:2]] == [[3.0], [4.0]]


def test_end_is_ruled_out_before_the_minimum() -> None:
    config = tiny_config()
    steps = list(generate(Script(config, [2]), prompt_of(1), config, SamplingConfig(
        guidance_scale=0.0, temperature=0.0, min_steps=3, max_steps=10,
    )))  # fmt: skip
    assert steps[-1].num_frames_U.tolist() == [8]


def test_pairs_are_fed_alike_and_guided() -> None:
    config = tiny_config()

    class Opposed(Script):
        def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
            logits_BKV = super().step(codes_BK, position_B) * 0
            logits_BKV[0, :, 1] = 3  # unconditional
            logits_BKV[1, :, 1] = 4  # conditional: id 1 is likeliest, but id 2 gains more
            logits_BKV[1, :, 2] = 3
            return logits_BKV

    for scale, favourite in ((0.0, 1), (2.0, 2)):
        model = Opposed(config, [9])
        sampling = SamplingConfig(guidance_scale=scale, temperature=0.0, min_steps=0, max_steps=4)
        frames = collect_frames(generate(model, prompt_of(2, paired=True), config, sampling))
        assert len(frames) == 1 and (frames[0] == favourite).all()
        assert all((codes_BK[0] == codes_BK[1]).all() for codes_BK in model.inputs)


def test_same_seed_same_codes() -> None:
    config = tiny_config()
    sampling = SamplingConfig(guidance_scale=0.0, min_steps=0, max_steps=20)

    def run(seed: int) -> list[list[int]]:
        frames: list[list[int]] = collect_frames(
            generate(Script(config, [15], random=True), prompt_of(1), config, sampling, seed=seed)
        )[0].tolist()
        return frames

    assert run(1) == run(1) != run(2)


def test_closing_stops_and_a_second_generation_starts_anew() -> None:
    config = tiny_config()
    model = Script(config, [5])
    steps = generate(model, prompt_of(1), config, GREEDY)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(model.inputs) == 1
    assert len(collect_frames(generate(model, prompt_of(1), config, GREEDY))[0]) == 5


def test_limit_too_small_for_a_frame_gives_none() -> None:
    config = tiny_config()
    frames = collect_frames(generate(Script(config, [9]), prompt_of(1), config, SamplingConfig(
        guidance_scale=0.0, temperature=0.0, min_steps=0, max_steps=1,
    )))  # fmt: skip
    assert [f.shape for f in frames] == [(0, 2)]


def test_guidance_without_pairs_is_refused_at_the_call() -> None:
    config = tiny_config()
    with pytest.raises(PromptError, match="guidance needs a prompt of"):
        generate(Script(config, [3]), prompt_of(2), config, SamplingConfig(guidance_scale=1.0))


def test_prompt_pads_on_the_left_and_keeps_fractional_positions() -> None:
    prompt = Prompt.from_rows([[5, 6], [7]], positions=[[0.5, 1.25], [3.0]], first_positions=[0, 0], pad_id=9)
    assert prompt.text_ids_BT.tolist() == [[5, 6], [9, 7]]
    assert prompt.mask_BT.tolist() == [[True, True], [False, True]]
    assert prompt.positions.tolist() == [[0.5, 1.25], [1.0, 3.0]]
    assert prompt.first_position_B.tolist() == [0.0, 0.0]
    assert Prompt.from_rows([[5, 6], [7]]).first_position_B.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_ids": []}, "ids of shape"),
        ({"text_ids": [[]]}, "ids of shape"),
        ({"text_ids": [[1], []]}, "last position must hold a token"),
        ({"text_ids": [[1]], "paired": True}, "cannot be pairs"),
        ({"text_ids": [[1]], "first_positions": [1.0, 2.0]}, "as many first positions"),
        ({"text_ids": [[4, 4, 1]], "placeholder_id": 4}, "2 places for codec rows and 0 codec rows"),
    ],
)
def test_prompts_that_do_not_hold_together(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt.from_rows(**arguments)  # type: ignore[arg-type]
