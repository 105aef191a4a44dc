"""A batch repeats one utterance."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.model.generation import Prompt
from unimoe_tools.profiling.workload import batched


def test_batches_repeat_an_utterance() -> None:
    prompt = Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    four = batched(prompt, 4)
    assert four.num_utterances == 2
    np.testing.assert_array_equal(four.text_ids_BT[2:], prompt.text_ids_BT)
    with pytest.raises(ConfigError, match="rows is 3"):
        batched(prompt, 3)
