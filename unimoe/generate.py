"""The torch model behind the runtime's `LanguageModel` protocol: generation with a key/value cache.

    steps = generate(TorchLanguageModel(model), prompt, model.config, sampling, seed=0)

Shape suffixes: B rows, T prompt positions, S cached and new positions, K codebooks, V ids of one codebook.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from unimoe_runtime.model.generation import Prompt, Step, collect_frames, generate

from .attention import LayerCache
from .model import ModelOutput, UniMoE

__all__ = ["Prompt", "Step", "TorchLanguageModel", "collect_frames", "generate"]


class TorchLanguageModel:
    """Serves one generation at a time. The model must be in evaluation mode."""

    def __init__(self, model: UniMoE) -> None:
        self.model = model
        self._device = model.final_norm.weight.device
        self._caches: tuple[LayerCache, ...] | None = None
        self._mask_BS: torch.Tensor | None = None

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> None:
        self._caches = None
        self._mask_BS = self._tensor(prompt.mask_BT)
        rows = (prompt.codec_ids_PK, prompt.video_embeddings_VC)
        codec_ids_PK, video_embeddings_VC = (None if array is None else self._tensor(array) for array in rows)
        embedded_BTC = self.model.embed(
            self._tensor(prompt.text_ids_BT),
            codec_ids_PK,
            -1 if prompt.placeholder_id is None else prompt.placeholder_id,
            video_embeddings_VC,
            -1 if prompt.video_token_id is None else prompt.video_token_id,
        )
        self._advance(embedded_BTC, self._tensor(prompt.positions))

    @torch.inference_mode()
    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        embedded_B1C = self.model.embed_codes(self._tensor(codes_BK)).unsqueeze(1)
        if self._mask_BS is None:
            raise RuntimeError("step() needs a prompt: call prefill() first")
        self._mask_BS = torch.cat([self._mask_BS, self._mask_BS.new_ones(len(codes_BK), 1)], dim=1)
        output = self._advance(embedded_B1C, self._tensor(position_B)[:, None])
        logits_BKV: NDArray[np.float32] = self.model.logits(output.hidden_BTC[:, -1]).float().cpu().numpy()
        return logits_BKV

    def _advance(self, embedded_BTC: torch.Tensor, positions: torch.Tensor) -> ModelOutput:
        output = self.model(embedded_BTC, positions, self._mask_BS, caches=self._caches)
        self._caches = output.caches
        return output

    def _tensor(self, array: NDArray) -> torch.Tensor:  # type: ignore[type-arg]
        return torch.as_tensor(array, device=self._device)
