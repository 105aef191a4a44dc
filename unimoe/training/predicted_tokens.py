"""Predicts the tokens of clips from their true history, to train the codec's decoder on them.

    FOLDER/NNNNN.npz …   codes [sum of T, K] int16 and lengths [N] of 64 clips, the shortest clips first

Every frame is drawn from the model's logits after the true frames before it. Codebooks of equal delay are drawn
together, those of the smallest delay first, and each pass has the earlier passes' predictions in the history: a coarse
error then leads to the fine tokens that the model would choose after it. An interrupted run resumes with the missing
files; the randomness of a file comes from (seed, its number). Processes share the files.

Shape suffixes: T frames, R delayed rows, K codebooks, G codebooks of one group, V codes, N = T x G, M audio positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unimoe.bars import tracked
from unimoe.model import UniMoE
from unimoe.stopping import stop_between_steps
from unimoe.training.batches import PLACEHOLDER, collate
from unimoe.training.examples import Example, read_codes, write_codes
from unimoe.world import World
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.delay_pattern import delay_codes

_BATCH = 16
_SHARD = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A model and how its tokens are drawn.

    `temperatures`: by domain; 0 takes the likeliest token. `bfloat16`: of the forward pass on a CPU too.
    """

    model: UniMoE
    temperatures: Mapping[str, float]
    bfloat16: bool = False
    seed: int = 0

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def predict(self, examples: Sequence[Example], number: int = 0) -> list[np.ndarray]:
        """Codes [T, K] int16 of clips. `number`: another one gives other randomness."""
        seed = int(np.random.default_rng((self.seed, number)).integers(2**62))
        generator = torch.Generator().manual_seed(seed)
        return [
            codes_TK
            for start in range(0, len(examples), _BATCH)
            for codes_TK in self._predict_batch(examples[start : start + _BATCH], generator)
        ]

    def _predict_batch(self, examples: Sequence[Example], generator: torch.Generator) -> list[np.ndarray]:
        codes = [codes_of(example, self.config) for example in examples]
        for group in groups_of(self.config.delay_pattern):
            seen = [
                replace(example, rows_RK=delay_codes(codes_TK, self.config))
                for example, codes_TK in zip(examples, codes, strict=True)
            ]
            for example, codes_TK, logits_TKV in zip(examples, codes, self.logits(seen), strict=True):
                drawn_TG = draw_codes(logits_TKV[:, group], self.temperatures[example.domain], generator)
                codes_TK[:, group] = drawn_TG.numpy()
        return [codes_TK.astype(np.int16) for codes_TK in codes]

    @torch.inference_mode()
    def logits(self, examples: Sequence[Example]) -> list[Tensor]:
        """Logits [T, K, V] float32 of every frame's codes after the rows before them, without those of special ids."""
        config, device = self.config, self.model.final_norm.weight.device
        rng = np.random.default_rng(0)
        batch = collate(examples, config, token_noise=0.0, text_drop=0.0, rng=rng).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or self.bfloat16):
            embedded_BTC = self.model.embed(batch.ids_BT, batch.inputs_MK, PLACEHOLDER)
            output = self.model(embedded_BTC, batch.positions_BT, batch.mask_BT)
            logits_MKV = self.model.logits(output.hidden_BTC[batch.audio_BT])[..., : config.codebook_size]
        rows = logits_MKV.float().cpu().split([len(example.rows_RK) - 1 for example in examples])
        latest = max(config.delay_pattern)
        return [
            torch.stack(
                [logits_RKV[d : len(logits_RKV) - latest + d, k] for k, d in enumerate(config.delay_pattern)], dim=1
            )
            for logits_RKV in rows
        ]


def groups_of(delay_pattern: Sequence[int]) -> list[list[int]]:
    """Codebooks of equal delay, the smallest delay first."""
    return [[k for k, delay in enumerate(delay_pattern) if delay == each] for each in sorted(set(delay_pattern))]


def codes_of(example: Example, config: ModelConfig) -> np.ndarray:
    """The frames codes_TK behind an example's delayed rows."""
    num_frames = len(example.rows_RK) - 1 - max(config.delay_pattern)
    columns = [example.rows_RK[1 + d : 1 + d + num_frames, k] for k, d in enumerate(config.delay_pattern)]
    return np.stack(columns, axis=1)


def draw_codes(logits_TGV: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Codes [T, G], the likeliest ones at temperature 0."""
    if temperature == 0:
        return logits_TGV.argmax(-1)
    share_NV = (logits_TGV / temperature).flatten(0, 1).softmax(-1)
    return torch.multinomial(share_NV, 1, generator=generator).view(logits_TGV.shape[:2])


def predict_once(predictor: Predictor, examples: Sequence[Example], folder: Path, world: World) -> list[np.ndarray]:
    """Codes [T, K] of clips, in their order; `folder` keeps them. Every process must call it.

    Raises CheckpointError where `folder` holds other clips, and Stopped where a signal ends it between two files.
    """
    order = np.argsort([example.length for example in examples], kind="stable")
    shards = np.split(order, range(_SHARD, len(order), _SHARD))
    paths = [folder / f"{number:05d}.npz" for number in range(len(shards))]
    mine = [number for number in range(world.rank, len(shards), world.size) if not paths[number].exists()]
    with stop_between_steps() as stop:
        for number in tracked(mine, "predicted tokens", total=len(mine)):
            write_codes(paths[number], predictor.predict([examples[at] for at in shards[number]], number))
            stop.end(f"{sum(map(Path.exists, paths))} of {len(paths)} files are in {folder}; the same command goes on")
    world.wait()
    found: dict[int, np.ndarray] = {}
    for path, shard in zip(paths, shards, strict=True):
        found |= dict(zip(shard.tolist(), read_codes(path, len(shard)), strict=True))
    return [found[at] for at in range(len(examples))]
