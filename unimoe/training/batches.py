"""Batches of similar lengths, with token noise and dropped texts.

Shape suffixes: B rows, T positions of a batch, K codebooks, M audio positions of a batch, P codec rows = M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from unimoe.loss import IGNORED
from unimoe.training.examples import Example
from unimoe_runtime.config import ModelConfig

PLACEHOLDER = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows padded on the right. Audio positions come in row order.

    `guide`: (row, query position, key position) of each audio position with a known phoneme or note.
    """

    ids_BT: Tensor
    positions_BT: Tensor
    mask_BT: Tensor
    inputs_MK: Tensor
    labels_MK: Tensor
    is_music_M: Tensor
    is_music_B: Tensor
    guide: tuple[Tensor, Tensor, Tensor]

    @property
    def audio_BT(self) -> Tensor:
        return self.ids_BT == PLACEHOLDER

    def part(self, index: int, count: int) -> Batch:
        """The rows of the index-th of `count` nearly equal parts, padded to the longest of them."""
        start, stop = len(self.ids_BT) * index // count, len(self.ids_BT) * (index + 1) // count
        before_B = torch.cat([torch.zeros(1, dtype=torch.long), self.audio_BT.sum(dim=1).cumsum(dim=0)])
        width = int(self.mask_BT[start:stop].sum(dim=1).max())
        audio = slice(int(before_B[start]), int(before_B[stop]))
        rows, queries, keys = self.guide
        here = (rows >= start) & (rows < stop)
        return Batch(
            ids_BT=self.ids_BT[start:stop, :width],
            positions_BT=self.positions_BT[start:stop, :width],
            mask_BT=self.mask_BT[start:stop, :width],
            inputs_MK=self.inputs_MK[audio],
            labels_MK=self.labels_MK[audio],
            is_music_M=self.is_music_M[audio],
            is_music_B=self.is_music_B[start:stop],
            guide=(rows[here] - start, queries[here], keys[here]),
        )

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: tuple(part.to(device) for part in value) if isinstance(value, tuple) else value.to(device)
            for name, value in moved.items()
        }
        return Batch(**moved)


def epoch_batches(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    sorted_batches: int = 40,
    domains: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """Indices of one epoch's batches: shuffled, then sorted within pools of `sorted_batches`, then shuffled as batches.

    Clips are sorted by their length rank within their domain. A batch then has clips of similar lengths and still all
    domains in the pool's proportions, because the auxiliary loss balances experts over speech and music together.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    pool = batch_size * sorted_batches
    lengths_N = np.asarray(lengths)
    domain_N = np.zeros(len(lengths), np.int64) if domains is None else np.unique(domains, return_inverse=True)[1]
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        rank_P = np.empty(len(part))
        for domain in np.unique(domain_N[part]):
            here = np.flatnonzero(domain_N[part] == domain)
            rank_P[here[np.argsort(lengths_N[part][here], kind="stable")]] = (np.arange(len(here)) + 0.5) / len(here)
        part = part[np.argsort(rank_P, kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def collate(
    examples: Sequence[Example], config: ModelConfig, *, token_noise: float, text_drop: float, rng: np.random.Generator
) -> Batch:
    """A batch. `token_noise`: share of input codes replaced by random ones. `text_drop`: share of rows without text."""
    ids, positions, inputs, labels, music = [], [], [], [], []
    guide: list[tuple[np.ndarray, ...]] = []
    for row, example in enumerate(examples):
        dropped = rng.random() < text_drop
        ids_P, positions_P = example.ids_P, example.positions_P
        if dropped:
            ids_P, positions_P = ids_P[[0, -1]], positions_P[[0, -1]]
        origin = positions_P[-1] + 1
        num_rows = len(example.rows_RK) - 1
        ids.append(np.concatenate([ids_P, np.full(num_rows, PLACEHOLDER)]))
        positions.append(np.concatenate([positions_P, origin + np.arange(num_rows)]))
        inputs_RK = example.rows_RK[:-1].copy()
        noisy_RK = (rng.random(inputs_RK.shape) < token_noise) & (inputs_RK < config.codebook_size)
        inputs_RK[noisy_RK] = rng.integers(config.codebook_size, size=int(noisy_RK.sum()))
        inputs.append(inputs_RK)
        labels_RK = example.rows_RK[1:]
        # The generation loop, not the model, writes rows before a codebook's delay and after its end.
        labels.append(np.where(labels_RK > config.eos_id, IGNORED, labels_RK))
        music.append(np.full(num_rows, example.domain == "music"))
        if not dropped:
            frame = np.flatnonzero(example.spoken_T >= 0)
            guide.append((np.full(len(frame), row), len(ids_P) + frame, example.spoken_T[frame]))
    width = max(map(len, ids))
    ids_BT = np.zeros((len(ids), width), dtype=np.int64)
    positions_BT = np.zeros(ids_BT.shape, dtype=np.float32)
    mask_BT = np.zeros(ids_BT.shape, dtype=np.bool_)
    for row, (ids_T, positions_T) in enumerate(zip(ids, positions, strict=True)):
        ids_BT[row, : len(ids_T)] = ids_T
        positions_BT[row, : len(ids_T)] = positions_T
        mask_BT[row, : len(ids_T)] = True
    places = [np.concatenate(part) for part in zip(*guide, strict=True)] or [np.zeros(0, dtype=np.int64)] * 3
    return Batch(
        ids_BT=torch.from_numpy(ids_BT),
        positions_BT=torch.from_numpy(positions_BT),
        mask_BT=torch.from_numpy(mask_BT),
        inputs_MK=torch.from_numpy(np.concatenate(inputs)),
        labels_MK=torch.from_numpy(np.concatenate(labels)),
        is_music_M=torch.from_numpy(np.concatenate(music)),
        is_music_B=torch.tensor([example.domain == "music" for example in examples]),
        guide=(torch.from_numpy(places[0]), torch.from_numpy(places[1]), torch.from_numpy(places[2])),
    )
