"""The step: embed, run each layer's trunk, read the router's decision, launch the experts it picked, take logits.

B rows · T positions · N = B·T tokens · S cache capacity · E dynamic experts (routed, then null) · K codebooks
V codec vocabulary · C hidden · P shared positions · M chosen tokens
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Backend, CachedPositions, Forward, StepInputs
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.rope import RotarySteps, rotary
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_runtime.synthesis.prompt_pass import cache_capacity, embed_prompt, piece_length, prompt_mask
from unimoe_runtime.synthesis.routing_counts import RoutingCounts

Floats = NDArray[np.float32]

Observer = Callable[[int, Floats, Floats], None]
"""Called after each trunk with layer, router_logits_NR and weights_NE; both are valid during the call only."""

RoutingListener = Callable[[int, Floats], None]
"""Called for each layer of a decode step with layer and weights_NE of one stream; valid during the call only."""

Reading = Generator[int, int, None]
"""Reads a prompt: yields the number of positions left, and is sent the number to read in the next pass."""


class Embedder:
    """Hidden states of codec rows: the sum of their codebooks' embeddings."""

    def __init__(self, backend: Backend) -> None:
        embeddings = backend.bundle.embeddings()
        self.text_rows, self.codec_rows = embeddings.rows("text.weight"), embeddings.rows("codec.weight")
        self._codebooks_K = np.arange(backend.bundle.model.num_codebooks)

    def codes(self, codes_BK: NDArray[np.int64]) -> Floats:
        """hidden_B1C of one codec row per model row."""
        hidden: Floats = np.add.reduce(self.codec_rows((self._codebooks_K, codes_BK)), axis=1, keepdims=True)
        return hidden


class BundleModel:
    """`generation.LanguageModel` over a bundle's graphs: one stream's cache and position.

    With `prefixes`, the beginning that all rows of a prompt share is read once, in its own pass, and its keys and
    values are kept there by hash. They are the same bit for bit whether they were computed or kept. Models may share an
    `embedder`: opening one takes as long as a decode step.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        observer: Observer | None = None,
        routing: RoutingListener | None = None,
        prefixes: LRUCache[CachedPositions] | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._backend = backend
        self._observer = observer
        self._prefixes = prefixes
        self.config: ModelConfig = backend.bundle.model
        self.routing = routing
        self.embedder = embedder or Embedder(backend)
        self.rotary = RotarySteps(self.config)
        self.statistics = RoutingCounts()
        self.settle: Callable[[], None] | None = None
        """Brings `statistics` up to the last shared step; None outside of shared steps."""
        self._forward: Forward | None = None
        self.valid_BS = np.zeros((0, 0), dtype=np.bool_)
        """Whether a cache slot holds a token; the padding before a shorter row's prompt does not count."""
        self._num_noted = 0
        self.num_filled = 0
        """Number of cache slots in use, and the slot that the next step writes to."""

    @property
    def num_rows(self) -> int:
        return len(self.valid_BS)

    def close(self) -> None:
        """Give the cache back to the backend. `prefill` starts again."""
        forward, self._forward = self._forward, None
        if forward is not None:
            forward.close()

    def hand_over(self) -> Forward:
        """Hand the cache over to the caller. Before the next step, `take_over` must set one."""
        forward, self._forward = self._forward, None
        if forward is None:
            raise RuntimeError("prefill() comes before a cache can be handed over")
        return forward

    def take_over(self, forward: Forward) -> None:
        """Decode with a cache that holds this stream's positions."""
        self._forward = forward

    def fill(self) -> None:
        """Bring `valid_BS` up to `num_filled`, which shared steps only count up."""
        self.reserve(self.num_filled + 1)
        self.valid_BS[:, self._num_noted : self.num_filled] = True
        self._num_noted = self.num_filled

    def prefill(self, prompt: Prompt) -> None:
        """Read a prompt into a fresh cache."""
        reading = self.read(prompt)
        left = next(reading)
        try:
            while True:
                left = reading.send(left)
        except StopIteration:
            pass

    def read(self, prompt: Prompt) -> Reading:
        """`prefill` in pieces. Keys, values and logits do not depend on the pieces, bit for bit."""
        self.close()
        rows, length = prompt.text_ids_BT.shape
        self._forward = forward = self._backend.start(rows)
        self.valid_BS = np.zeros((rows, 0), dtype=np.bool_)
        self.num_filled = 0
        self.reserve(length)
        hidden_BTC = embed_prompt(prompt, self.embedder.text_rows, self.embedder.codec_rows)
        mask_BT, begin = prompt.mask_BT, 0
        if self._prefixes is not None and prompt.num_shared:
            begin = prompt.num_shared
            shared = yield from self._shared_positions(prompt, hidden_BTC, self._prefixes)
            forward.restore(shared, self.valid_BS.shape[1])
            # The shared tokens are in the first slots of every row. A shorter row's padding follows them, in the
            # slots where the left-padded row still has shared tokens.
            mask_BT = np.concatenate([np.ones((rows, begin), np.bool_), (mask_BT.cumsum(axis=1) > begin)[:, begin:]], 1)
        self.valid_BS[:, :length] = mask_BT
        mask_B1TS = prompt_mask(mask_BT, self.valid_BS.shape[1], begin)
        inputs = self._pass_inputs(hidden_BTC[:, begin:], prompt.positions[..., begin:], mask_B1TS, begin)
        yield from self._read(forward, inputs, mask_BT[:, begin:])
        self.num_filled = self._num_noted = length
        self.statistics = RoutingCounts()

    def _shared_positions(
        self, prompt: Prompt, hidden_BTC: Floats, prefixes: LRUCache[CachedPositions]
    ) -> Generator[int, int, CachedPositions]:
        """Keys and values of the tokens that all rows begin with."""
        num_shared = prompt.num_shared
        (hidden_PC, positions), *others = [
            (hidden_BTC[row, start : start + num_shared], prompt.positions[..., row, start : start + num_shared])
            for row, start in enumerate(prompt.mask_BT.argmax(axis=1))
        ]
        for other_PC, other in others:
            if not np.array_equal(other_PC, hidden_PC) or not np.array_equal(other, positions):
                raise PromptError(f"a prompt's rows differ within the {num_shared} tokens that they are said to share")
        key = blake2b(hidden_PC.tobytes() + positions.tobytes(), digest_size=16).digest()
        cached = prefixes.get(key)
        if cached is None:
            real_BT = np.ones((1, num_shared), np.bool_)
            mask_B1TS = prompt_mask(real_BT, num_shared)
            inputs = self._pass_inputs(hidden_PC[None], positions[..., None, :], mask_B1TS, 0)
            with closing(self._backend.start(1)) as forward:
                yield from self._read(forward, inputs, real_BT)
                cached = forward.snapshot(num_shared)
            prefixes.put(key, cached, cached.num_bytes)
        return cached

    def step(self, codes_BK: NDArray[np.int64], position_B: Floats) -> Floats:
        """One decode step: logits_BKV after reading one codec row per model row."""
        self.reserve(self.num_filled + 1)
        self.valid_BS[:, self.num_filled] = True
        assert self._forward is not None
        cos_BTD, sin_BTD = self.rotary.at(position_B)
        inputs = StepInputs(
            hidden_BTC=self.embedder.codes(codes_BK),
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=self.valid_BS[:, None, None, :],
            write_index_B=np.full(len(codes_BK), self.num_filled, np.int64),
        )
        self._run(self._forward, inputs, None)
        self.num_filled = self._num_noted = self.num_filled + 1
        self.statistics.steps += 1
        return self.logits(np.arange(len(codes_BK)))

    def step_alone(self, codes: list[int], position_B: Floats) -> Floats:
        """`step` with the same codec row for all rows."""
        return self.step(np.array([codes] * self.num_rows), position_B)

    def logits(self, tokens_M: NDArray[np.int64]) -> Floats:
        """logits_MKV of tokens (row · T + position) of the last pass."""
        assert self._forward is not None
        return self._forward.head(tokens_M)

    def reserve(self, num_slots: int) -> None:
        """Reserve cache slots for `num_slots` positions."""
        rows, capacity = self.valid_BS.shape
        if num_slots > capacity:
            grown_BS = np.zeros((rows, cache_capacity(num_slots)), dtype=np.bool_)
            grown_BS[:, :capacity] = self.valid_BS
            self.valid_BS = grown_BS

    def _read(self, forward: Forward, inputs: StepInputs, real_BT: NDArray[np.bool_]) -> Reading:
        """The passes over a prompt's positions. Positions outside `real_BT` launch no expert.

        The cache grows from pass to pass, because attention computes every slot of it, masked ones included.
        """
        begin, length = 0, real_BT.shape[1]
        before, most = int(inputs.write_index_B[0]), inputs.mask_B1TS.shape[3]
        while begin < length:
            wanted = yield length - begin
            # An observer gets each layer once, with all of the prompt's tokens, and `logits` are those of one pass.
            end = length if self._observer is not None else begin + piece_length(wanted, length - begin)
            piece = slice(begin, end)
            part = StepInputs(
                hidden_BTC=inputs.hidden_BTC[:, piece],
                cos_BTD=inputs.cos_BTD[:, piece],
                sin_BTD=inputs.sin_BTD[:, piece],
                mask_B1TS=inputs.mask_B1TS[:, :, piece, : min(most, cache_capacity(before + end))],
                write_index_B=inputs.write_index_B + begin,
            )
            self._run(forward, part, real_BT[:, piece].reshape(-1))
            begin = end

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
        """Run all layers. A prompt's tokens outside `real_N` launch no expert: their weights are zeroed."""
        forward.begin(inputs)
        for layer in range(self.config.num_layers):
            weights_NE = forward.trunk(layer)
            if real_N is not None:
                weights_NE = np.where(real_N[:, None], weights_NE, np.float32(0))
            if self._observer is not None:
                self._observer(layer, forward.router_logits(), weights_NE)
            if real_N is None:
                if self.routing is not None:
                    self.routing(layer, weights_NE)
                picked = self._picked(weights_NE.tolist())
            else:
                picked = np.flatnonzero(weights_NE[:, : self.config.num_routed_experts].any(axis=0)).tolist()
            for expert in picked:
                forward.expert(layer, expert, weights_NE[:, expert : expert + 1])

    def _picked(self, weights_NE: list[list[float]]) -> list[int]:
        """The routed experts that some token picked; updates the counts.

        It uses plain lists. A decode step has few tokens, so the loops are short. Between two graphs the CPU caches are
        cold, and numpy's small calls then take ten times as long as in a microbenchmark.
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
