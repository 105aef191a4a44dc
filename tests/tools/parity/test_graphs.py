"""Comparing one graph's outputs: the worst output counts, whatever another output's values are."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe_tools.parity.graphs import allowed_error, compare_outputs


def test_an_output_of_large_values_excuses_no_error_of_another() -> None:
    expected = {"pcm_BL": np.full((1, 4), 0.5, np.float32), "new_phase_B1": np.array([[1 << 29]])}
    found = {**expected, "pcm_BL": expected["pcm_BL"] + np.float32(0.01)}
    compared = compare_outputs("codec_decoder", "float32", found, expected)
    assert compared.max_abs_error == pytest.approx(0.01) and compared.max_abs_value == 0.5
    assert compared.max_abs_error > allowed_error(compared.max_abs_value, 1e-4)
    floats = {"pcm_BL": expected["pcm_BL"], "logits": np.full((1, 4), 1e6, np.float32)}
    worst = compare_outputs("head", "float32", {**floats, "pcm_BL": found["pcm_BL"]}, floats)
    assert worst.max_abs_value == 0.5


def test_an_integer_output_is_equal_or_wrong() -> None:
    expected = {"new_phase_B1": np.array([[1 << 29]])}
    assert compare_outputs("codec_decoder", "float32", expected, expected).max_abs_error == 0
    found = {"new_phase_B1": expected["new_phase_B1"] + 1}
    assert compare_outputs("codec_decoder", "float32", found, expected).max_abs_error == np.inf


def test_equal_outputs_give_the_largest_value() -> None:
    outputs = {"a": np.ones(3, np.float32), "b": np.full(3, -2, np.float32)}
    compared = compare_outputs("head", "float32", outputs, outputs)
    assert compared.max_abs_error == 0 and compared.max_abs_value == 2
