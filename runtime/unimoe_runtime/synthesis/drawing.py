"""Codes for all streams of a step: streams with the same sampling are drawn together.

R rows of the step · U streams · K codebooks · V codec vocabulary
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.model.sampling import draw, guide, mask_special_ids, may_end
from unimoe_runtime.synthesis.decoding import Decoding


def draw_all(
    logits_RKV: NDArray[np.float32], streams: Sequence[Decoding], first_rows: Sequence[int]
) -> list[list[int]]:
    """K codes for each stream. Each stream uses its own generator and gets the same codes as alone, bit for bit."""
    if len(streams) == 1:
        first = first_rows[0]
        return _draw(logits_RKV[first : first + streams[0].num_rows], streams)
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, stream in enumerate(streams):
        groups[stream.draws_by].append(index)
    codes: list[list[int]] = [[]] * len(streams)
    for members in groups.values():
        num_rows = streams[members[0]].num_rows
        members.sort(key=first_rows.__getitem__)
        rows = [first_rows[index] + row for index in members for row in range(num_rows)]
        is_block = rows[-1] - rows[0] == len(rows) - 1
        logits_BKV = logits_RKV[rows[0] : rows[-1] + 1] if is_block else logits_RKV.take(rows, axis=0)
        drawn = _draw(logits_BKV, [streams[index] for index in members])
        for index, row in zip(members, drawn, strict=True):
            codes[index] = row
    return codes


def _draw(logits_BKV: NDArray[np.float32], group: Sequence[Decoding]) -> list[list[int]]:
    """Codes of streams with the same sampling, except for its limits."""
    first = group[0]
    sampling, config = first.sampling, first.model.config
    # PAD and BOS, after EOS, are never drawn. In nearly all steps EOS is not either: then nothing has to be masked.
    guided_UKV = guide(logits_BKV[:, :, : config.eos_id + 1], first.paired, sampling)
    ending = may_end(guided_UKV, config.eos_id, sampling)
    if not ending:
        return _drawn(guided_UKV[:, :, : config.eos_id], group)
    codes: list[list[int]] = [[]] * len(group)
    others = [index for index in range(len(group)) if index not in ending]
    if others:
        drawn = _drawn(guided_UKV[others, :, : config.eos_id], [group[index] for index in others])
        for index, row in zip(others, drawn, strict=True):
            codes[index] = row
    for index in ending:  # how a stream draws must not depend on the others, nor their limits on its own
        own_1KV = guided_UKV[index : index + 1]
        mask_special_ids(own_1KV, config, sampling, allow_eos=group[index].allow_eos)
        codes[index] = _drawn(own_1KV, [group[index]])[0]
    return codes


def _drawn(logits_UKV: NDArray[np.float32], group: Sequence[Decoding]) -> list[list[int]]:
    """Codes from guided and masked logits."""
    sampling = group[0].sampling
    random_N1 = [stream.random.next() for stream in group] if sampling.temperature else []
    codes: list[list[int]] = draw(logits_UKV, sampling, group[0].model.config.eos_id, random_N1).tolist()
    return codes
