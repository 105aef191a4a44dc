"""From logits to the next codes: guidance, masks, EOS rules, temperature, top-k, top-p, draw.

Shape suffixes: B model rows, U utterances, K codebooks, V ids of one codebook, N = U·K, C candidates kept.

The order is the public model's: guidance, special ids, EOS factor, temperature, EOS unless it is the largest,
top-k, top-p, draw. Here temperature comes after top-k, which chooses the same ids. Sorting is limited to the ids that
top-p needs. A step samples a few hundred values, so its cost is the number of numpy calls; reductions call the ufuncs
directly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BackendError

_MINUS_INFINITY = np.float32(-np.inf)


def guide(logits_BKV: NDArray[np.float32], paired: bool, sampling: SamplingConfig) -> NDArray[np.float32]:
    """Classifier-free guidance: cond + scale · (cond - uncond) of each pair, as a new array [U, K, V].

    Raises BackendError at the first step with non-finite logits, because damaged weights would give noise.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not paired:
            guided_UKV = logits_BKV.copy()
        elif not sampling.guidance_scale:
            guided_UKV = logits_BKV[1::2].copy()
        else:
            uncond_UKV, cond_UKV = logits_BKV[0::2], logits_BKV[1::2]
            guided_UKV = cond_UKV - uncond_UKV
            guided_UKV *= np.float32(sampling.guidance_scale)
            guided_UKV += cond_UKV
        # One reduction: a non-finite value makes the sum non-finite. If finite values overflow, each value is checked.
        total = float(np.add.reduce(guided_UKV, axis=None))
    if not math.isfinite(total) and not np.isfinite(guided_UKV).all():
        raise BackendError(
            "the model gives logits that are not numbers; its weights are damaged: export the bundle again"
        )
    return guided_UKV


def mask_special_ids(
    logits_UKV: NDArray[np.float32],
    config: ModelConfig,
    sampling: SamplingConfig,
    *,
    allow_eos: bool,
) -> None:
    """Exclude PAD and BOS, and EOS except on codebook 0 once it is allowed; scale the EOS logit. In place."""
    logits_UKV[:, 0, config.eos_id + 1 :] = _MINUS_INFINITY
    logits_UKV[:, 1:, config.eos_id :] = _MINUS_INFINITY
    if sampling.eos_factor != 1.0:
        logits_UKV[:, 0, config.eos_id] *= np.float32(sampling.eos_factor)
    if not allow_eos:
        logits_UKV[:, 0, config.eos_id] = _MINUS_INFINITY


def may_end(guided_UKV: NDArray[np.float32], eos_id: int, sampling: SamplingConfig) -> list[int]:
    """The utterances that may draw EOS: on codebook 0, its logit is larger than every other."""
    first_UV = guided_UKV[:, 0, : eos_id + 1]
    if sampling.eos_factor != 1.0:
        first_UV = first_UV.copy()
        first_UV[:, eos_id] *= np.float32(sampling.eos_factor)
    largest_U: list[int] = first_UV.argmax(axis=1).tolist()  # of equal ones, the first
    return [utterance for utterance, largest in enumerate(largest_U) if largest == eos_id]


def sample(
    logits_UKV: NDArray[np.float32], sampling: SamplingConfig, eos_id: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """One id [U, K] for every codebook: the largest logit at temperature 0, else a draw."""
    if not sampling.temperature:
        return draw(logits_UKV, sampling, eos_id, [])
    return draw(logits_UKV, sampling, eos_id, [RandomSteps(rng, logits_UKV[..., 0].size, steps=1).next()])


class RandomSteps:
    """A stream's random numbers for its draws, `count` for each step, made for many steps at once.

    They are in the interval (0, 1], and the same as if they were made step by step.
    """

    def __init__(self, rng: np.random.Generator, count: int, steps: int = 64) -> None:
        self._rng, self._shape = rng, (steps, count, 1)
        self._steps: list[NDArray[np.float64]] = []

    def next(self) -> NDArray[np.float64]:
        """The numbers [count, 1] of the next step."""
        if not self._steps:
            self._steps = list(1.0 - self._rng.random(self._shape))[::-1]
        return self._steps.pop()


def draw(
    logits_UKV: NDArray[np.float32],
    sampling: SamplingConfig,
    eos_id: int,
    random_N1: Sequence[NDArray[np.float64]],
) -> NDArray[np.int64]:
    """`sample` of several streams at once. `random_N1`: the numbers of each (`RandomSteps`), in their order; not used
    at temperature 0. Without columns from `eos_id` on, logits are those of ids that may be drawn."""
    if not sampling.temperature:
        largest: NDArray[np.int64] = logits_UKV.argmax(axis=-1)
        return largest
    shape = logits_UKV.shape
    ids_NC, probs_NC = candidates(logits_UKV.reshape(-1, shape[2]), sampling, eos_id)
    cumulative_NC = np.add.accumulate(probs_NC, axis=1, dtype=np.float64)
    # In the interval (0, total]: an id of probability 0 is never drawn, and the last one is always reached.
    threshold_N1 = (random_N1[0] if len(random_N1) == 1 else np.concatenate(random_N1)) * cumulative_NC[:, -1:]
    pick_N1 = np.add.reduce(cumulative_NC < threshold_N1, axis=1, keepdims=True)
    codes: NDArray[np.int64] = ids_NC[_rows(len(ids_NC)), pick_N1].reshape(shape[:2])
    return codes


def candidates(
    logits_NV: NDArray[np.float32], sampling: SamplingConfig, eos_id: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids [N, C] that a draw chooses from and their probabilities, 0 for excluded ids.

    In ascending order of id; with top-p below 1, the most likely first.
    """
    num_ids = logits_NV.shape[1]
    if num_ids > eos_id:
        eos_N = logits_NV[:, eos_id]
        beaten_N = (eos_N <= np.maximum.reduce(logits_NV[:, :eos_id], axis=1)) & (eos_N > _MINUS_INFINITY)
        if np.logical_or.reduce(beaten_N):
            logits_NV = logits_NV.copy()
            logits_NV[beaten_N, eos_id] = _MINUS_INFINITY
    row_N1 = _rows(len(logits_NV))
    if sampling.top_k is not None and sampling.top_k < num_ids:
        ids_NC, probs_NC = _largest(logits_NV, sampling.top_k)
    else:
        ids_NC = np.broadcast_to(np.arange(num_ids), logits_NV.shape)
        probs_NC = logits_NV.copy()
    probs_NC -= np.maximum.reduce(probs_NC, axis=1, keepdims=True)
    if sampling.temperature != 1.0:
        probs_NC /= np.float32(sampling.temperature)
    np.exp(probs_NC, out=probs_NC)
    probs_NC /= np.add.reduce(probs_NC, axis=1, keepdims=True)
    if sampling.top_p < 1.0:
        order_NC = np.argsort(-probs_NC, axis=1, kind="stable")
        ids_NC, probs_NC = ids_NC[row_N1, order_NC], probs_NC[row_N1, order_NC]
        # An id stays if the mass before it does not exceed top_p; the first one always stays.
        mass_before_NC = probs_NC.cumsum(axis=1) - probs_NC
        probs_NC *= mass_before_NC <= np.float32(sampling.top_p)
        probs_NC /= probs_NC.sum(axis=1, keepdims=True)
    return ids_NC, probs_NC


def _largest(logits_NV: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids of each row's `count` largest logits, in ascending order, and these logits; of equal ones at the limit,
    any."""
    num_rows, num_ids = logits_NV.shape
    first = num_ids - count
    # Selecting values and comparing takes two thirds of the time of selecting indices.
    limit_N = np.partition(logits_NV, first, axis=1)[:, first]
    flat = (logits_NV >= limit_N[:, None]).ravel().nonzero()[0]
    if len(flat) == num_rows * count:
        ids_NC: NDArray[np.int64] = flat.reshape(num_rows, count)
        return ids_NC - _rows(num_rows, num_ids), logits_NV.take(ids_NC)
    ids_NC = logits_NV.argpartition(first, axis=1)[:, first:]
    ids_NC.sort(axis=1)
    return ids_NC, logits_NV[_rows(num_rows), ids_NC]


@lru_cache(maxsize=64)
def _rows(count: int, stride: int = 1) -> NDArray[np.int64]:
    """`count` multiples of `stride` from 0 on, as a column."""
    rows_N1: NDArray[np.int64] = np.arange(count)[:, None] * stride
    rows_N1.flags.writeable = False
    return rows_N1
