"""A request's fields: an invalid one is a PromptError of one line."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from unimoe_runtime.errors import ConfigError, PromptError
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "text is None, of type NoneType; it must be a string"),
        ({"text": "x", "voice": 3}, "voice is 3"),
        ({"text": "x", "seed": -1}, "seed is -1; it must be at least 0"),
        ({"text": "x", "seed": 1.5}, "seed is 1.5"),
        ({"text": "x", "seed": True}, "seed is True"),
        ({"text": "x", "timeout_s": 0}, "timeout_s is 0; it must be above 0"),
        ({"text": "x", "timeout_s": float("nan")}, "timeout_s is nan"),
        ({"text": "x", "timeout_s": "soon"}, "it must be None or a number"),
        ({"text": "x", "speed": 9}, "speed is 9; it must be from 0.25 to 4"),
        ({"text": "x", "limits": 3}, "it must be None or a Limits"),
        ({"text": "x", "sampling": {}}, "it must be None or a SamplingConfig"),
        ({"text": "x", "lexicon": ["cat"]}, "lexicon is"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError) as caught:
        SynthesisRequest(**fields)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_request_cannot_change() -> None:
    request = SynthesisRequest(text="hello", limits=Limits(max_s=2.0), speed=2)
    with pytest.raises(FrozenInstanceError):
        request.text = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        SynthesisRequest("hello")  # type: ignore[call-arg]


def test_limits_are_not_negative() -> None:
    with pytest.raises(ConfigError, match="max_s is -1"):
        Limits(max_s=-1)
