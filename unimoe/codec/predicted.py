"""Trains a codec's decoder on tokens that a token model predicted, without changing the codec's tokens.

A decoder that only ever heard true tokens renders a model's errors as they are. This one hears the predictions of each
clip's tokens from the clip's true history beside the clip's real samples, as vocoders are trained on the features that
their acoustic model predicts with teacher forcing (Shen et al. 2018, https://arxiv.org/abs/1712.05884, section 3.3).
`unimoe.training.predicted_tokens` makes the predictions.

Shapes: B rows, L samples, T frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unimoe.codec.common import TrainedCodec
from unimoe.codec.segments import ClipPool, SegmentBatch
from unimoe.codec.settings import PredictedTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.data.corpus import Corpus, Item
from unimoe.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedClip:
    """A clip, its own tokens and the predicted ones: as many frames of each."""

    item: Item
    true_TK: np.ndarray
    predicted_TK: np.ndarray


class PredictedSegments:
    """Random segments of clips with their predicted tokens, or for `true_share` of the segments with their own.

    `silence_K`: tokens of silence, which pads shorter clips. The level does not vary: tokens hold the clip's own.
    """

    def __init__(
        self, clips: Sequence[PredictedClip], training: PredictedTraining, hop_samples: int, silence_K: np.ndarray
    ) -> None:
        self.training, self.hop_samples, self.silence_K = training, hop_samples, silence_K
        self.pool = ClipPool(((clip.item, clip) for clip in clips), training.music_share)

    def batch(self, rng: np.random.Generator) -> SegmentBatch:
        rows = [self._segment(self.pool.draw(rng), rng) for _ in range(self.training.batch_size)]
        real_BL, codes_BTK = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return SegmentBatch(real_BL=real_BL, codes_BKT=codes_BTK.transpose(1, 2))

    def _segment(self, clip: PredictedClip, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Samples float32 [L] and codes int64 [T, K] of one segment."""
        num_frames = self.training.segment_frames
        codes_TK = clip.true_TK if rng.random() < self.training.true_share else clip.predicted_TK
        start = rng.integers(max(1, len(codes_TK) - num_frames + 1))
        codes_TK = codes_TK[start : start + num_frames].astype(np.int64)
        silence_TK = np.tile(self.silence_K, (num_frames - len(codes_TK), 1))
        pcm_L = clip.item.pcm()[start * self.hop_samples : (start + num_frames) * self.hop_samples]
        pcm_L = np.pad(pcm_L, (0, num_frames * self.hop_samples - len(pcm_L)))
        return pcm_L, np.concatenate([codes_TK, silence_TK])


class PredictedTrainer(CodecTrainer):
    """Trains the decoder of `codec` on `clips` of `corpus`.

    The processes of `world` share each batch, at least one segment each.
    """

    training: PredictedTraining

    def __init__(
        self,
        codec: TrainedCodec[Any],
        training: PredictedTraining,
        corpus: Corpus,
        clips: Sequence[PredictedClip],
        world: World | None = None,
    ) -> None:
        world = world or World()
        training = replace(training, batch_size=max(training.batch_size, world.size))
        super().__init__(codec.config, training, corpus, codec, world)
        self.title = "codec's decoder on predicted tokens"
        silence_L = torch.zeros(training.segment_frames * codec.hop_samples, device=self.device)
        silence_BKT: Tensor = self.codec.encode(silence_L[None])
        silence_K = silence_BKT[0, :, -1].cpu().numpy()
        self.segments = PredictedSegments(clips, training, codec.hop_samples, silence_K)
