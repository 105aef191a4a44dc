"""A prompt as the layers read it: its embeddings, its mask, and its division into passes.

B rows · T positions · S cache capacity · P prompt codec rows · V video tokens · C hidden
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.model.generation import Prompt

Floats = NDArray[np.float32]

# A step computes attention over every slot, masked ones included, and each growth copies the cache. So the cache grows
# by an eighth, and by this many slots at least.
_SMALLEST_GROWTH = 16

# A longer pass would compute attention over many slots that causality masks, and its scores would leave the cache.
_MOST_POSITIONS = 256

Rows = Callable[[Any], Floats]
"""Reads an embedding's rows by an array of indices, as from `TensorFile.rows`."""


def embed_prompt(prompt: Prompt, text_rows: Rows, codec_rows: Rows) -> Floats:
    """hidden_BTC of a prompt. A codec row, the sum of its codebooks' embeddings, replaces a placeholder, which may be
    an id outside the vocabulary."""
    is_codec_BT = prompt.text_ids_BT == prompt.placeholder_id
    hidden_BTC = text_rows(np.where(is_codec_BT, 0, prompt.text_ids_BT))
    if prompt.codec_ids_PK is not None:
        codebooks_K = np.arange(prompt.codec_ids_PK.shape[1])
        hidden_BTC[is_codec_BT] = codec_rows((codebooks_K, prompt.codec_ids_PK)).sum(axis=1)
    if prompt.video_embeddings_VC is not None:
        hidden_BTC[prompt.text_ids_BT == prompt.video_token_id] = prompt.video_embeddings_VC
    return hidden_BTC


def cache_capacity(num_positions: int) -> int:
    """Number of slots of the cache that holds `num_positions` positions."""
    growth = _growth(num_positions)
    return -(-num_positions // growth) * growth


def shrunk_capacity(num_positions: int, capacity: int) -> int:
    """Number of slots for a cache of `capacity` slots that holds `num_positions` positions from now on.

    It shrinks by two growths at least: copying it costs as much as attention over the freed slots in about ten steps.
    """
    needed = cache_capacity(num_positions)
    return needed if needed + 2 * _growth(num_positions) <= capacity else capacity


def _growth(num_positions: int) -> int:
    return max(_SMALLEST_GROWTH, 1 << num_positions.bit_length() >> 4)


def prompt_mask(mask_BT: NDArray[np.bool_], capacity: int, begin: int = 0) -> NDArray[np.bool_]:
    """mask_B1TS of a prompt's pass over a cache of `capacity` slots: causal, padded positions hidden.

    It covers the positions from `begin` on; earlier ones are in the cache.
    """
    rows, length = mask_BT.shape
    mask_BTS = np.zeros((rows, length - begin, capacity), dtype=np.bool_)
    mask_BTS[:, :, :length] = np.tri(length, dtype=np.bool_)[begin:] & mask_BT[:, None, :]
    # A padded position attends to itself: a softmax over nothing would be NaN and spread through the values.
    mask_BTS[:, np.arange(length - begin), np.arange(begin, length)] = True
    return mask_BTS[:, None]


def piece_length(wanted: int, left: int) -> int:
    """Positions of the next pass over a prompt of which `left` are to be read: about `wanted`, and not many more than
    `_MOST_POSITIONS`.

    A pass never has one position alone, unless the prompt has only one: ONNX Runtime computes a pass of one position in
    another order, so the result would depend on the division.
    """
    length = min(max(wanted, 2), _MOST_POSITIONS, left)
    return left if left - length == 1 else length
