"""Teacher forcing: a prompt and the codes after it, as one longer prompt.

One pass over the layers then gives the same result as decoding those codes step by step, at a fraction of the cost.

B rows · T positions · R delayed rows · K codebooks
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.model.generation import Prompt

# Stands for a codec row if the prompt has no placeholder of its own. It is not an id of any vocabulary.
_PLACEHOLDER = -1


def forced_prompt(prompt: Prompt, codes_TK: NDArray[np.integer], config: ModelConfig) -> Prompt:
    """The prompt of one utterance, then R = frames + max delay rows: BOS first, codes delayed, each at its position.

    Both rows of a guided pair read the same codes. The logits at the last R positions are those of the next rows.
    Raises PromptError if the number of codebooks differs from the model's, or if the prompt holds several utterances.
    """
    if prompt.num_utterances != 1:
        raise PromptError(f"teacher forcing takes one utterance; the prompt has {prompt.num_utterances}")
    rows_RK = delay_codes(codes_TK, config)[:-1]
    placeholder = _PLACEHOLDER if prompt.placeholder_id is None else prompt.placeholder_id
    ids_BR = np.full((prompt.num_rows, len(rows_RK)), placeholder, dtype=np.int64)
    positions_BR = prompt.first_position_B[:, None] + np.arange(len(rows_RK), dtype=np.float32)
    if prompt.positions.ndim == 3:
        positions_BR = np.broadcast_to(positions_BR, (3, *positions_BR.shape))
    codec_ids_PK = np.tile(rows_RK, (prompt.num_rows, 1))
    if prompt.codec_ids_PK is not None:  # codec rows are listed row by row: first a recording's, then the forced ones
        ends_B = (prompt.text_ids_BT == placeholder).sum(axis=1).cumsum()
        given = np.split(prompt.codec_ids_PK, ends_B[:-1])
        codec_ids_PK = np.concatenate([part for recorded in given for part in (recorded, rows_RK)])
    return Prompt(
        text_ids_BT=np.concatenate([prompt.text_ids_BT, ids_BR], axis=1),
        mask_BT=np.concatenate([prompt.mask_BT, np.ones_like(ids_BR, dtype=np.bool_)], axis=1),
        positions=np.concatenate([prompt.positions, positions_BR], axis=-1),
        first_position_B=prompt.first_position_B + np.float32(len(rows_RK)),
        codec_ids_PK=codec_ids_PK,
        placeholder_id=placeholder,
        video_embeddings_VC=prompt.video_embeddings_VC,
        video_token_id=prompt.video_token_id,
        paired=prompt.paired,
    )
