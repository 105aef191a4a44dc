"""The distance between two models' answers when both read the same codes instead of their own.

B rows · R forced rows · N tokens without padding · K codebooks · V codec vocabulary · L layers
E dynamic experts (routed, then null)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.sampling import guide
from unimoe_runtime.model.teacher_forcing import forced_prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.agreement import mean, routing_agreement, token_agreement

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ForcedItem:
    """A request with its answer: `prompt` ends with `num_rows` delayed rows of codes; `sampling` gives the guidance."""

    prompt: Prompt
    num_rows: int
    sampling: SamplingConfig


def teacher_force(
    prompt: Prompt, codes_TK: NDArray[np.integer], sampling: SamplingConfig, config: ModelConfig
) -> ForcedItem:
    """A prompt and the frames of its answer, as one item."""
    forced = forced_prompt(prompt, codes_TK, config)
    num_rows = forced.text_ids_BT.shape[1] - prompt.text_ids_BT.shape[1]
    return ForcedItem(prompt=forced, num_rows=num_rows, sampling=sampling)


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherForcedOutput:
    """A model's output for one item.

    `logits_BRKV`: after each forced row; `guided_RKV`: the logits for drawing a code, codes only; `is_frame_code_RK`:
    where that draw decides a code of a frame. `picked_LNE`: the experts that each token picked, including the prompt's
    tokens; `forced_N`: the tokens that are forced rows.
    """

    logits_BRKV: Floats
    guided_RKV: Floats
    is_frame_code_RK: NDArray[np.bool_]
    picked_LNE: NDArray[np.bool_]
    forced_N: NDArray[np.bool_]

    def launched_LE(self) -> NDArray[np.float64]:
        """Share of the decode steps in which at least one row picks an expert, so that its graph runs."""
        layers, _, experts = self.picked_LNE.shape
        picked_LBRE = self.picked_LNE[:, self.forced_N].reshape(layers, len(self.logits_BRKV), -1, experts)
        return np.asarray(picked_LBRE.any(axis=1).mean(axis=1), dtype=np.float64)


def read_forced(backend: Backend, item: ForcedItem) -> TeacherForcedOutput:
    """Read an item in one pass. Raises BackendError for non-finite logits."""
    config, prompt = backend.bundle.model, item.prompt
    real_N = prompt.mask_BT.reshape(-1)
    picked: list[NDArray[np.bool_]] = []
    model = BundleModel(backend, observer=lambda layer, logits, weights_NE: picked.append(weights_NE[real_N] > 0))
    model.prefill(prompt)
    rows, length = prompt.text_ids_BT.shape
    is_forced_N = np.tile(np.arange(length) >= length - item.num_rows, rows)
    logits_MKV = model.logits(np.flatnonzero(is_forced_N))
    if not np.isfinite(logits_MKV).all():
        raise BackendError(f"{backend.bundle.path}: its logits are not finite; export or calibrate it again")
    logits_BRKV = logits_MKV.reshape(rows, item.num_rows, *logits_MKV.shape[1:])
    frame_RK = np.arange(item.num_rows)[:, None] - np.asarray(config.delay_pattern)
    return TeacherForcedOutput(
        logits_BRKV=logits_BRKV,
        guided_RKV=_guided(logits_BRKV, prompt, item.sampling, config),
        is_frame_code_RK=(frame_RK >= 0) & (frame_RK < item.num_rows - max(config.delay_pattern)),
        picked_LNE=np.stack(picked),
        forced_N=is_forced_N[real_N],
    )


def _guided(logits_BRKV: Floats, prompt: Prompt, sampling: SamplingConfig, config: ModelConfig) -> Floats:
    rows, num_forced, *rest = logits_BRKV.shape
    flat = logits_BRKV.reshape(rows, -1, rest[-1])
    guided_RKV: Floats = guide(flat, prompt.paired, sampling)[0].reshape(num_forced, *rest)
    return guided_RKV[..., : config.codebook_size]


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The comparison of a candidate's forced answers with a reference's.

    `max_logit_error`: absolute; `logit_error`: root mean square, relative to the reference's; `kl_nats`: the mean
    Kullback-Leibler divergence KL(reference ‖ candidate) of the guided distributions over codes at temperature 1;
    `token_agreement`: the share of equal likeliest codes; both over the drawn codes. `router_agreement`: the share of
    equal (token, layer, expert) decisions; `equal_sets`: the share of (token, layer) with identical sets of picks; both
    over all `num_tokens`.
    """

    num_tokens: int
    max_logit_error: float
    logit_error: float
    kl_nats: float
    token_agreement: float
    router_agreement: float
    equal_sets: float


def diverge(reference: Sequence[TeacherForcedOutput], candidate: Sequence[TeacherForcedOutput]) -> Divergence:
    """Compare passes over the same items, in the same order; every token counts the same."""
    pairs = list(zip(reference, candidate, strict=True))
    errors = [theirs.logits_BRKV.astype(np.float64) - ours.logits_BRKV for ours, theirs in pairs]
    power = sum(float(np.square(ours.logits_BRKV, dtype=np.float64).sum()) for ours in reference)
    kl, same_token = [], []
    for ours, theirs in pairs:
        first, second = ours.guided_RKV[ours.is_frame_code_RK], theirs.guided_RKV[ours.is_frame_code_RK]
        kl.append(_kl(first, second))
        same_token.append(token_agreement(first, second))
    routing = routing_agreement([each.picked_LNE for each in reference], [each.picked_LNE for each in candidate])
    return Divergence(
        num_tokens=sum(ours.picked_LNE.shape[1] for ours in reference),
        max_logit_error=max(float(np.abs(error).max()) for error in errors),
        logit_error=float(np.sqrt(sum(float(np.square(error).sum()) for error in errors) / max(power, 1e-30))),
        kl_nats=float(np.concatenate(kl).mean()),
        token_agreement=mean(np.concatenate(same_token)),
        router_agreement=routing.decisions,
        equal_sets=routing.sets,
    )


def _kl(first_MV: Floats, second_MV: Floats) -> NDArray[np.float64]:
    """KL(first ‖ second) of the softmax of logits, row by row."""
    first, second = _log_softmax(first_MV), _log_softmax(second_MV)
    return np.asarray((np.exp(first) * (first - second)).sum(axis=-1))


def _log_softmax(logits_MV: Floats) -> NDArray[np.float64]:
    shifted = logits_MV.astype(np.float64) - logits_MV.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
