"""Runs a bundle over recordings with teacher forcing: loss by domain, and the picks of its routers.

The bundle's codec turns held-out clips into codes, and its front end turns their texts into prompts. One pass over the
conditional row reads both. Needs no torch.

Shape suffixes: T frames, K codebooks, R rows of delayed codes, V codes, N tokens, L layers, E dynamic experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soxr

from unimoe.data.corpus import Item
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import FrontEnd
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.model.generation import Prompt
from unimoe_tools.parity.teacher_forced import read_forced, teacher_force

if TYPE_CHECKING:
    from unimoe.evaluation.routing import RoutingRecord


@dataclass(frozen=True, kw_only=True)
class DomainLoss:
    """Mean cross-entropy of a code in nats, over all codebooks and for each. Chance would be log(codebook size)."""

    loss: float
    by_codebook: tuple[float, ...]
    chance: float
    num_codes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ForcedFigures:
    """`routing` is None for a dense model."""

    losses: dict[str, DomainLoss]
    routing: RoutingRecord | None


def read_clips(
    backend: Backend,
    frontend: FrontEnd,
    items: Sequence[Item],
    sample_rate_hz: int,
    *,
    tick: Callable[[int, int], object] = lambda *_: None,
) -> ForcedFigures:
    """Run the items with teacher forcing. Items that the bundle's front end refuses are left out."""
    config = backend.bundle.model
    codec = BundleCodec(backend.bundle.codec, backend.run)
    sums: dict[str, np.ndarray] = {}
    picked: list[tuple[str, np.ndarray]] = []
    for number, item in enumerate(items, start=1):
        tick(number, len(items))
        task, text, voice = item.request()
        try:
            prompt = _conditional(frontend.build_prompt(task, text, voice).prompt)
        except PromptError:
            continue
        pcm_L = np.asarray(soxr.resample(item.pcm(), sample_rate_hz, codec.sample_rate_hz), np.float32)
        codes_TK = codec.encode(pcm_L).T
        found = read_forced(backend, teacher_force(prompt, codes_TK, SamplingConfig(), config))
        labels_RK = delay_codes(codes_TK, config)[1:]
        logits_RKV = found.logits_BRKV[0].astype(np.float64)
        shifted = logits_RKV - logits_RKV.max(axis=-1, keepdims=True)
        log_sum_RK = np.log(np.exp(shifted).sum(axis=-1))
        chosen_RK = np.take_along_axis(shifted, np.minimum(labels_RK, config.codec_vocab_size - 1)[..., None], -1)
        nats_RK = np.where(found.is_frame_code_RK, log_sum_RK - chosen_RK[..., 0], 0)
        summed = np.stack([nats_RK.sum(axis=0), found.is_frame_code_RK.sum(axis=0)])
        sums[item.domain] = sums.get(item.domain, 0) + summed
        picked.append((item.domain, found.picked_LNE))
    losses = {
        domain: DomainLoss(
            loss=float(nats_K.sum() / counts_K.sum()),
            by_codebook=tuple(float(value) for value in nats_K / counts_K),
            chance=float(np.log(config.codebook_size)),
            num_codes=int(counts_K.sum()),
        )
        for domain, (nats_K, counts_K) in sorted(sums.items(), reverse=True)
    }
    routed = bool(config.num_router_rows) and bool(picked)
    return ForcedFigures(losses=losses, routing=_count(picked, config.num_routed_experts) if routed else None)


def _conditional(prompt: Prompt) -> Prompt:
    """The row of a guided pair that has the text, without padding."""
    kept = prompt.mask_BT[-1]
    return replace(
        prompt,
        text_ids_BT=prompt.text_ids_BT[-1:, kept],
        mask_BT=prompt.mask_BT[-1:, kept],
        positions=prompt.positions[..., -1:, kept],
        first_position_B=prompt.first_position_B[-1:],
        paired=False,
        num_shared=0,
    )


def _count(picked: Sequence[tuple[str, np.ndarray]], num_routed: int) -> RoutingRecord:
    from unimoe.evaluation.routing import RoutingRecord

    domains = tuple(sorted({domain for domain, _ in picked}, reverse=True))
    num_layers = picked[0][1].shape[0]
    picked_DLP = np.zeros((len(domains), num_layers, num_routed + 1), dtype=np.int64)
    for domain, picked_LNE in picked:
        for layer, numbers_N in enumerate(picked_LNE[:, :, :num_routed].sum(axis=2)):
            picked_DLP[domains.index(domain), layer] += np.bincount(numbers_N, minlength=num_routed + 1)
    return RoutingRecord(
        domains=domains,
        num_routed=num_routed,
        domain_X=np.array([domains.index(domain) for domain, _ in picked]),
        tokens_X=np.array([picked_LNE.shape[1] for _, picked_LNE in picked]),
        picks_XLE=np.stack([picked_LNE.sum(axis=1) for _, picked_LNE in picked]),
        picked_DLP=picked_DLP,
    )
