"""The delay pattern: codebook c lags delay_c rows behind codebook 0, so that a row depends on earlier rows only.

Shape suffixes: T frames, R rows (delayed time), K codebooks.

A delayed sequence starts with one row of BOS. Row r > 0 holds, for codebook c, the code of frame r - 1 - delay_c:
BOS before the first frame, one EOS after the last, then PAD (the public model's layout).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import PromptError

Codes = NDArray[np.int64]


def delay_codes(codes_TK: NDArray[np.integer], config: ModelConfig) -> Codes:
    """Frames [T, K] as delayed rows [T + max delay + 1, K], first row BOS.

    All rows but the last are a model's inputs, all rows but the first its targets. The codebook with the largest delay
    never sees its EOS, as in the public model.
    Raises PromptError if the number of codebooks differs from the model's.
    """
    codes_TK = np.asarray(codes_TK, dtype=np.int64)
    if codes_TK.ndim != 2 or codes_TK.shape[1] != config.num_codebooks:
        raise PromptError(f"codes have shape {list(codes_TK.shape)}; the model needs [frames, {config.num_codebooks}]")
    num_frames = codes_TK.shape[0]
    rows_RK = np.arange(num_frames + max(config.delay_pattern) + 1)[:, None]
    frame_RK = rows_RK - 1 - np.asarray(config.delay_pattern)[None, :]
    delayed_RK = np.full(frame_RK.shape, config.pad_id, dtype=np.int64)
    row, codebook = np.nonzero((frame_RK >= 0) & (frame_RK < num_frames))
    delayed_RK[row, codebook] = codes_TK[frame_RK[row, codebook], codebook]
    delayed_RK[frame_RK < 0] = config.bos_id
    delayed_RK[frame_RK == num_frames] = config.eos_id
    return delayed_RK
