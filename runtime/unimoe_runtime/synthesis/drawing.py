"""Codes for all streams of a step: those of the same sampling are drawn together.

R rows of the step · U streams · K codebooks · V codec vocabulary
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.model.sampling import draw, guide, mask_special_ids
from unimoe_runtime.synthesis.decoding import Decoding


def draw_all(
    logits_RKV: NDArray[np.float32], streams: Sequence[Decoding], first_rows: Sequence[int]
) -> list[list[int]]:
    """K codes for each stream. A stream draws with its own generator what it draws alone, to the bit."""
    groups: defaultdict[tuple[bool, SamplingConfig], list[int]] = defaultdict(list)
    for index, stream in enumerate(streams):
        groups[stream.paired, stream.draws_by].append(index)
    codes: list[list[int]] = [[]] * len(streams)
    for (paired, sampling), members in groups.items():
        rows = [row for index in members for row in range(first_rows[index], first_rows[index] + 1 + paired)]
        logits_UKV = guide(logits_RKV.take(rows, axis=0), paired, sampling)
        group = [streams[index] for index in members]
        config = group[0].model.config
        mask_special_ids(logits_UKV, config, sampling, allow_eos=[stream.allow_eos for stream in group])
        drawn_UK = draw(logits_UKV, sampling, config.eos_id, [(stream.generator, 1) for stream in group])
        for index, row in zip(members, drawn_UK.tolist(), strict=True):
            codes[index] = row
    return codes
