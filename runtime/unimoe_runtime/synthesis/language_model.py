"""The step: embed, run each layer's trunk, read the router's decision, launch the experts it picked, take logits.

B rows · T positions · N = B·T tokens · S cache capacity · E dynamic experts (routed, then null) · K codebooks
V codec vocabulary · C hidden · L layers
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Backend, CachedPositions, Forward, StepInputs
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.rope import RotarySteps, rotary
from unimoe_runtime.synthesis.lru_cache import LRUCache

Floats = NDArray[np.float32]

# A step attends to every slot of the cache, to the empty, masked ones in vain, and a growth copies what it holds: so it
# grows by an eighth, and by this many slots at least.
_SMALLEST_GROWTH = 16

Observer = Callable[[int, Floats, Floats], None]
"""Called after each trunk with layer, router_logits_NR and weights_NE; both are valid during the call only."""

RoutingListener = Callable[[int, Floats], None]
"""Called after each trunk of a decode step with layer and weights_NE of one stream; valid during the call only."""


@dataclass
class RoutingStatistics:
    """Counts over decode steps (the prefill is left out)."""

    steps: int = 0
    launched: int = 0
    routed_picks: int = 0
    null_picks: int = 0

    def __add__(self, other: RoutingStatistics) -> RoutingStatistics:
        return RoutingStatistics(
            steps=self.steps + other.steps,
            launched=self.launched + other.launched,
            routed_picks=self.routed_picks + other.routed_picks,
            null_picks=self.null_picks + other.null_picks,
        )

    @property
    def experts_per_step(self) -> float:
        """Expert graphs launched a step, over all layers."""
        return self.launched / self.steps if self.steps else 0.0

    @property
    def null_share(self) -> float:
        """Share of all picks, over rows and layers, that went to a null expert and cost nothing."""
        picks = self.routed_picks + self.null_picks
        return self.null_picks / picks if picks else 0.0


Rows = Callable[[Any], Floats]
"""Reads an embedding's rows by arrays of indices, as `TensorFile.rows` gives it."""


def embed_prompt(prompt: Prompt, text_rows: Rows, codec_rows: Rows) -> Floats:
    """hidden_BTC of a prompt. A codec row is the sum of its codebooks' embeddings, in the place of a placeholder,
    which may be an id that the vocabulary does not have."""
    is_codec_BT = prompt.text_ids_BT == prompt.placeholder_id
    hidden_BTC = text_rows(np.where(is_codec_BT, 0, prompt.text_ids_BT))
    if prompt.codec_ids_PK is not None:
        codebooks_K = np.arange(prompt.codec_ids_PK.shape[1])
        hidden_BTC[is_codec_BT] = codec_rows((codebooks_K, prompt.codec_ids_PK)).sum(axis=1)
    if prompt.video_embeddings_VC is not None:
        hidden_BTC[prompt.text_ids_BT == prompt.video_token_id] = prompt.video_embeddings_VC
    return hidden_BTC


def cache_capacity(num_positions: int) -> int:
    """Slots of the cache that holds so many positions."""
    growth = max(_SMALLEST_GROWTH, 1 << num_positions.bit_length() >> 4)
    return -(-num_positions // growth) * growth


def prompt_mask(mask_BT: NDArray[np.bool_], capacity: int, begin: int = 0) -> NDArray[np.bool_]:
    """mask_B1TS of a prompt's pass over a cache of `capacity` slots: causal, padded positions hidden.

    For the positions from `begin` on; those before it are in the cache.
    """
    rows, length = mask_BT.shape
    mask_BTS = np.zeros((rows, length - begin, capacity), dtype=np.bool_)
    mask_BTS[:, :, :length] = np.tri(length, dtype=np.bool_)[begin:] & mask_BT[:, None, :]
    # A padded position attends to itself: a softmax over nothing would be NaN and spread through the values.
    mask_BTS[:, np.arange(length - begin), np.arange(begin, length)] = True
    return mask_BTS[:, None]


class BundleModel:
    """`generation.LanguageModel` over a bundle's graphs.

    With `prefixes` what all rows of a prompt have in common is read once, in a pass of its own, and kept there by
    its hash: keys and values come out the same to the bit whether they were computed or kept.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        observer: Observer | None = None,
        routing: RoutingListener | None = None,
        prefixes: LRUCache[CachedPositions] | None = None,
    ) -> None:
        self._backend = backend
        self._observer = observer
        self._routing = routing
        self._prefixes = prefixes
        self.config = backend.bundle.model
        embeddings = backend.bundle.embeddings()
        self._text_rows, self._codec_rows = embeddings.rows("text.weight"), embeddings.rows("codec.weight")
        self._codebooks_K = np.arange(self.config.num_codebooks)
        self._rotary = RotarySteps(self.config)
        self.statistics = RoutingStatistics()
        self._forward: Forward | None = None
        self._valid_BS = np.zeros((0, 0), dtype=np.bool_)
        self._filled = 0

    def close(self) -> None:
        """Give the cache back to the backend. `prefill` begins anew."""
        forward, self._forward = self._forward, None
        if forward is not None:
            forward.close()

    def prefill(self, prompt: Prompt) -> None:
        """Read a prompt into a fresh cache."""
        rows, length = prompt.text_ids_BT.shape
        self.close()
        self._forward = forward = self._backend.start(rows)
        self._valid_BS = np.zeros((rows, 0), dtype=np.bool_)
        self._filled = 0
        self._reserve(length)
        hidden_BTC = embed_prompt(prompt, self._text_rows, self._codec_rows)
        mask_BT, begin = prompt.mask_BT, 0
        if self._prefixes is not None and prompt.num_shared:
            begin = prompt.num_shared
            forward.restore(self._shared_positions(prompt, hidden_BTC, self._prefixes), self._valid_BS.shape[1])
            # The shared tokens stand in the first slots of every row, and a shorter row's padding after them: where
            # the row, padded on the left, still has shared ones.
            mask_BT = np.concatenate([np.ones((rows, begin), np.bool_), (mask_BT.cumsum(axis=1) > begin)[:, begin:]], 1)
        self._valid_BS[:, :length] = mask_BT
        mask_B1TS = prompt_mask(mask_BT, self._valid_BS.shape[1], begin)
        inputs = self._pass_inputs(hidden_BTC[:, begin:], prompt.positions[..., begin:], mask_B1TS, begin)
        self._run(forward, inputs, mask_BT[:, begin:].reshape(-1))
        self._filled = length
        self.statistics = RoutingStatistics()

    def _shared_positions(
        self, prompt: Prompt, hidden_BTC: Floats, prefixes: LRUCache[CachedPositions]
    ) -> CachedPositions:
        """Keys and values of the tokens that all rows begin with."""
        count = prompt.num_shared
        (hidden_PC, positions), *others = [
            (hidden_BTC[row, start : start + count], prompt.positions[..., row, start : start + count])
            for row, start in enumerate(prompt.mask_BT.argmax(axis=1))
        ]
        for other_PC, other in others:
            if not np.array_equal(other_PC, hidden_PC) or not np.array_equal(other, positions):
                raise PromptError(f"a prompt's rows differ within the {count} tokens that they are said to share")
        key = blake2b(hidden_PC.tobytes() + positions.tobytes(), digest_size=16).digest()
        cached = prefixes.get(key)
        if cached is None:
            real_BT = np.ones((1, count), np.bool_)
            inputs = self._pass_inputs(hidden_PC[None], positions[..., None, :], prompt_mask(real_BT, count), 0)
            with closing(self._backend.start(1)) as forward:
                self._run(forward, inputs, real_BT[0])
                cached = forward.snapshot(count)
            prefixes.put(key, cached, cached.num_bytes)
        return cached

    def step(self, codes_BK: NDArray[np.int64], position_B: Floats) -> Floats:
        """One decode step: logits_BKV after reading one codec row a model row."""
        self._reserve(self._filled + 1)
        self._valid_BS[:, self._filled] = True
        assert self._forward is not None
        cos_BTD, sin_BTD = self._rotary.at(position_B)
        inputs = StepInputs(
            hidden_BTC=np.add.reduce(self._codec_rows((self._codebooks_K, codes_BK)), axis=1, keepdims=True),
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=self._valid_BS[:, None, None, :],
            write_index_B=np.full(len(codes_BK), self._filled, np.int64),
        )
        self._run(self._forward, inputs, None)
        self._filled += 1
        self.statistics.steps += 1
        return self.logits(np.arange(len(codes_BK)))

    def logits(self, tokens_M: NDArray[np.int64]) -> Floats:
        """logits_MKV of tokens (row · T + position) of the pass that ran last."""
        assert self._forward is not None
        return self._forward.head(tokens_M)

    def _pass_inputs(
        self, hidden_BTC: Floats, positions: Floats, mask_B1TS: NDArray[np.bool_], write_index: int
    ) -> StepInputs:
        cos_BTD, sin_BTD = rotary(positions, self.config)
        return StepInputs(
            hidden_BTC=hidden_BTC,
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=mask_B1TS,
            write_index_B=np.full(len(hidden_BTC), write_index, np.int64),
        )

    def _run(self, forward: Forward, inputs: StepInputs, real_N: NDArray[np.bool_] | None) -> None:
        """All layers. Of a prompt's tokens those that are not `real_N` launch nothing: their weights are zeroed."""
        forward.begin(inputs)
        for layer in range(self.config.num_layers):
            weights_NE = forward.trunk(layer)
            if real_N is not None:
                weights_NE = np.where(real_N[:, None], weights_NE, np.float32(0))
            if self._observer is not None:
                self._observer(layer, forward.router_logits(), weights_NE)
            if real_N is None:
                if self._routing is not None:
                    self._routing(layer, weights_NE)
                picked = self._picked(weights_NE.tolist())
            else:
                picked = np.flatnonzero(weights_NE[:, : self.config.num_routed_experts].any(axis=0)).tolist()
            for expert in picked:
                forward.expert(layer, expert, weights_NE[:, expert : expert + 1])

    def _picked(self, weights_NE: list[list[float]]) -> list[int]:
        """The routed experts that some token picked, counted.

        Plain lists: between two graphs every line comes from memory again, and numpy's small calls cost ten times
        what they seem to (a few tokens in a decode step, so the loops are short).
        """
        routed, statistics = self.config.num_routed_experts, self.statistics
        picked = [expert for expert, column in enumerate(zip(*weights_NE, strict=True)) if any(column)]
        while picked and picked[-1] >= routed:
            picked.pop()
        for row in weights_NE:
            null = len(row) - routed - row[routed:].count(0.0)
            statistics.null_picks += null
            statistics.routed_picks += len(row) - row.count(0.0) - null
        statistics.launched += len(picked)
        return picked

    def _reserve(self, length: int) -> None:
        rows, capacity = self._valid_BS.shape
        if length > capacity:
            grown_BS = np.zeros((rows, cache_capacity(length)), dtype=np.bool_)
            grown_BS[:, :capacity] = self._valid_BS
            self._valid_BS = grown_BS
