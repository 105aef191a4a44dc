"""Predicted tokens: aligned with the true frames under any delays, coarse ones first, the same after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.unimoe.training.tiny_training import config, make_examples
from unimoe.model import UniMoE
from unimoe.training import predicted_tokens
from unimoe.training.examples import Example, read_codes
from unimoe.training.predicted_tokens import Predictor, codes_of, groups_of, predict_once
from unimoe.world import World
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.model.delay_pattern import delay_codes

WARM = {"speech": 0.7, "music": 1.0}
DELAYS = st.lists(st.integers(0, 4), min_size=1, max_size=4)
ORIGIN = 2  # of the examples' audio positions


class Certain:
    """Stands in for a model that is certain of code (7 frame + 3 codebook + `shift`), and would prefer special ids."""

    def __init__(self, model_config: ModelConfig, shift: int = 0) -> None:
        self.config, self.shift = model_config, shift
        self.final_norm = SimpleNamespace(weight=torch.zeros(1))
        self.seen: list[Tensor] = []

    def embed(self, ids_BT: Tensor, inputs_MK: Tensor, placeholder: int) -> Tensor:
        self.seen.append(inputs_MK)
        return ids_BT

    def __call__(self, embedded: Tensor, positions_BT: Tensor, mask_BT: Tensor) -> Any:
        return SimpleNamespace(hidden_BTC=positions_BT[..., None] - ORIGIN)

    def logits(self, hidden_MC: Tensor) -> Tensor:
        """Position r of the audio predicts row r + 1, which has frame r - delay."""
        frame_MK = hidden_MC.long() - torch.tensor(self.config.delay_pattern)
        code_MK = (7 * frame_MK + 3 * torch.arange(self.config.num_codebooks) + self.shift) % self.config.codebook_size
        logits_MKV = 1e4 * torch.nn.functional.one_hot(code_MK, self.config.codec_vocab_size).float()
        logits_MKV[..., self.config.codebook_size :] = 1e9
        return logits_MKV


def certain_examples(model_config: ModelConfig, lengths: Sequence[int]) -> list[Example]:
    examples = []
    for index, length in enumerate(lengths):
        frames_T1, codebooks_K = np.arange(length)[:, None], np.arange(model_config.num_codebooks)
        codes_TK = (7 * frames_T1 + 3 * codebooks_K) % model_config.codebook_size
        examples.append(
            Example(
                ids_P=np.array([2, *range(4, 4 + index), 1]),
                positions_P=np.array([0, *range(index), 1], dtype=np.float32),
                rows_RK=delay_codes(codes_TK, model_config),
                spoken_T=np.full(length, -1),
                domain="music" if index % 2 else "speech",
            )
        )
    return examples


def predictor(model: Any, temperatures: dict[str, float] | None = None) -> Predictor:
    return Predictor(model=cast(UniMoE, model), temperatures=temperatures or WARM)


@given(delays=DELAYS, lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), warm=st.booleans())
def test_a_certain_model_gives_the_true_codes_back(delays: list[int], lengths: list[int], warm: bool) -> None:
    model_config = config(num_codebooks=len(delays), delay_pattern=delays)
    examples = certain_examples(model_config, lengths)
    cold = {"speech": 0.0, "music": 0.0}
    made = predictor(Certain(model_config), WARM if warm else cold).predict(examples)
    for example, length, codes_TK in zip(examples, lengths, made, strict=True):
        assert codes_TK.shape == (length, len(delays)) and codes_TK.dtype == np.int16
        np.testing.assert_array_equal(codes_TK, codes_of(example, model_config))


@given(delays=DELAYS)
def test_each_pass_hears_the_predictions_of_the_smaller_delays(delays: list[int]) -> None:
    model_config = config(num_codebooks=len(delays), delay_pattern=delays)
    [example] = certain_examples(model_config, [9])
    model = Certain(model_config, shift=1)
    [made_TK] = predictor(model).predict([example])
    true_TK = codes_of(example, model_config)
    np.testing.assert_array_equal(made_TK, (true_TK + 1) % model_config.codebook_size)
    groups = groups_of(delays)
    assert sorted(k for group in groups for k in group) == list(range(len(delays))) and len(model.seen) == len(groups)
    for number, inputs_RK in enumerate(model.seen):
        before = [k for group in groups[:number] for k in group]
        expected_TK = true_TK.copy()
        expected_TK[:, before] = made_TK[:, before]
        np.testing.assert_array_equal(inputs_RK, delay_codes(expected_TK, model_config)[:-1])


@given(delays=DELAYS, length=st.integers(1, 20))
def test_frames_are_what_was_delayed(delays: list[int], length: int) -> None:
    model_config = config(num_codebooks=len(delays), delay_pattern=delays)
    codes_TK = np.random.default_rng(0).integers(16, size=(length, len(delays)))
    [example] = certain_examples(model_config, [length])
    example = Example(**{**vars(example), "rows_RK": delay_codes(codes_TK, model_config)})
    np.testing.assert_array_equal(codes_of(example, model_config), codes_TK)


def test_no_special_id_comes_out_of_a_random_model() -> None:
    torch.manual_seed(0)
    model = UniMoE(config()).eval()
    for bfloat16 in (False, True):
        made = Predictor(model=model, temperatures={"speech": 50.0, "music": 50.0}, bfloat16=bfloat16)
        codes = np.concatenate(made.predict(make_examples(24)))
        assert codes.min() == 0 and codes.max() == 15, "a hot model draws every code"


def test_a_stopped_prediction_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted_tokens, "_SHARD", 5)
    torch.manual_seed(0)
    made, examples = predictor(UniMoE(config()).eval()), make_examples(12)
    whole = predict_once(made, examples, tmp_path / "whole", World())
    assert len(list((tmp_path / "whole").iterdir())) == 3
    first = tmp_path / "stopped" / "00001.npz"
    first.parent.mkdir()
    first.write_bytes((tmp_path / "whole" / "00001.npz").read_bytes())
    written = first.stat().st_mtime_ns
    for _ in range(2):
        again = predict_once(made, examples, tmp_path / "stopped", World())
        for one, other, example in zip(whole, again, examples, strict=True):
            np.testing.assert_array_equal(one, other)
            assert len(one) == len(codes_of(example, config()))
    assert first.stat().st_mtime_ns == written
    with pytest.raises(CheckpointError, match="has 5 clips, the corpus 3: remove it"):
        predict_once(made, examples[:3], tmp_path / "stopped", World())
    assert len(read_codes(first, 5)) == 5


def test_processes_share_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted_tokens, "_SHARD", 5)
    monkeypatch.setattr(World, "wait", lambda self: None)
    torch.manual_seed(0)
    made, examples = predictor(UniMoE(config()).eval()), make_examples(12)
    alone = predict_once(made, examples, tmp_path / "alone", World())
    with pytest.raises(FileNotFoundError):  # nobody waits here, so the other's file is missing
        predict_once(made, examples, tmp_path / "shared", World(rank=1, size=2))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["00001.npz"]
    shared = predict_once(made, examples, tmp_path / "shared", World(rank=0, size=2))
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)
