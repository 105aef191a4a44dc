"""Step limits that follow from a prompt's expected length."""

from __future__ import annotations

from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.frontend.prepared import PreparedPrompt
from unimoe_runtime.model.generation import Prompt


def test_limits_follow_the_expected_length_where_it_is_known() -> None:
    prompt = Prompt.from_rows([[1, 2]], pad_id=0)
    known = PreparedPrompt(prompt=prompt, expected_frames=100, caption="x").limit(SamplingConfig(), max_delay=3)
    assert (known.min_steps, known.max_steps) == (70, 144)
    sampling = SamplingConfig()
    assert PreparedPrompt(prompt=prompt, expected_frames=None, caption="x").limit(sampling, max_delay=3) is sampling
