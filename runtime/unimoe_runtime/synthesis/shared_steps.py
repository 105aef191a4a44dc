"""Decode steps of several streams at once: their rows lie side by side in one cache, each at its own position.

A picked expert runs once for all rows that picked it. A row's result does not depend on the other rows, on a CPU bit
for bit, so a stream decodes the same codes as alone.

R rows · S cache capacity · E dynamic experts (routed, then null) · K codebooks · V codec vocabulary · L layers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Backend, Forward, StepInputs
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.rope import rotary
from unimoe_runtime.synthesis.language_model import BundleModel, Embedder
from unimoe_runtime.synthesis.prompt_pass import cache_capacity, shrunk_capacity
from unimoe_runtime.synthesis.shared_counts import Member, SharedCounts

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedStep:
    """The result of a step: logits_RKV of all rows, the first row of each stream, the number of launched experts."""

    logits_RKV: Floats
    first_rows: list[int]
    launched: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _RowInputs:
    """The host's inputs of a step, and its routing weights, for as many rows as there have been."""

    position_R1: Floats
    mask_R1TS: NDArray[np.bool_]
    write_index_R: NDArray[np.int64]
    weights_LRE: Floats

    @classmethod
    def zeros(cls, config: ModelConfig, num_rows: int, capacity: int) -> _RowInputs:
        mask_R1TS = np.zeros((num_rows, 1, 1, capacity), np.bool_)
        mask_R1TS[..., :1] = True  # an unused row attends to one slot: a softmax over nothing would be NaN
        return cls(
            position_R1=np.zeros((num_rows, 1), np.float32),
            mask_R1TS=mask_R1TS,
            write_index_R=np.zeros(num_rows, np.int64),
            weights_LRE=np.zeros((config.num_layers, num_rows, config.num_dynamic_experts), np.float32),
        )


class SharedSteps:
    """The streams that decode together, and their cache. One thread uses it."""

    def __init__(self, backend: Backend, embedder: Embedder) -> None:
        self._backend = backend
        self._config = backend.bundle.model
        self._counts = backend.row_counts
        self._embedder = embedder
        self._members: dict[BundleModel, Member] = {}
        self._picks = SharedCounts(backend.bundle.model.num_routed_experts)
        self._num_used = 0
        """The row after the last member's rows."""
        self._forward: Forward | None = None
        self._num_rows = self._capacity = 0
        self._allocate(0, 0)

    def __contains__(self, model: BundleModel) -> bool:
        return model in self._members

    def __len__(self) -> int:
        return len(self._members)

    @property
    def models(self) -> list[BundleModel]:
        return list(self._members)

    def num_rows_with(self, model: BundleModel) -> int:
        """Number of rows with `model` as a further member."""
        return self._num_used + self._counts.places(model.num_rows)

    def join(self, model: BundleModel) -> None:
        """Add a stream that has read its prompt; its own cache is given back."""
        self._settle()
        row, num_rows = self._num_used, model.num_rows
        self._fit(row + num_rows, model.num_filled + 1)
        assert self._forward is not None
        own = model.hand_over()
        self._forward.copy_rows(own, 0, row, num_rows, model.num_filled)
        own.close()
        self._members[model] = member = Member(model=model, row=row, num_rows=num_rows)
        model.settle = self._settle
        self._num_used = row + self._counts.places(num_rows)
        self._write_mask(member)

    def leave(self, model: BundleModel) -> None:
        """Free a stream's rows and fill the gap with later ones."""
        self._settle()
        model.settle = None
        gone = self._members.pop(model)
        if not self._members:
            self.close()
            return
        last = max(self._members.values(), key=lambda member: member.row)
        places = self._counts.places
        if last.row > gone.row and places(last.num_rows) == places(gone.num_rows):
            self._move(last, gone.row)
        else:
            behind = sorted((m for m in self._members.values() if m.row > gone.row), key=lambda member: member.row)
            row = gone.row
            for member in behind:
                self._move(member, row)
                row += places(member.num_rows)
        self._num_used = max(member.row + places(member.num_rows) for member in self._members.values())
        self._shrink()

    def park(self, model: BundleModel) -> None:
        """Move a stream back to its own cache and free its rows, because it makes no steps for some time."""
        assert self._forward is not None
        model.fill()
        own = self._backend.start(model.num_rows)
        own.resize(model.num_rows, model.valid_BS.shape[1])
        own.copy_rows(self._forward, self._members[model].row, 0, model.num_rows, model.num_filled)
        model.take_over(own)
        self.leave(model)

    def step(
        self, models: Sequence[BundleModel], codes: Sequence[list[int]], positions: Sequence[Floats]
    ) -> SharedStep:
        """One step of some members; the rows of the others do not change.

        `codes`: a row of K codes for each; `positions`: position_B of its rows. A failed step changes nothing.
        """
        members = [self._members[model] for model in models]
        self._fit(self._num_used, 1 + max(model.num_filled for model in self._members))
        rows: list[int] = []
        slots: list[int] = []
        row_codes: list[list[int]] = []
        for member, row_K in zip(members, codes, strict=True):
            rows += range(member.row, member.row + member.num_rows)
            slots += [member.model.num_filled] * member.num_rows
            row_codes += [row_K] * member.num_rows
        rows_M = np.array(rows)
        codes_RK = np.zeros((self._num_rows, self._config.num_codebooks), np.int64)
        codes_RK[rows_M] = row_codes
        self._position_R1[rows_M, 0] = np.concatenate(positions)
        self._mask_R1TS[rows_M, 0, 0, slots] = True
        if len(members) == len(self._members):
            self._write_index_R[rows_M] = slots
        else:  # a row that takes no part writes to a slot that is not filled yet
            for member in self._members.values():
                self._write_index_R[member.row : member.row + member.num_rows] = member.model.num_filled
        cos_RTD, sin_RTD = rotary(self._position_R1, self._config)
        inputs = StepInputs(
            hidden_BTC=self._embedder.codes(codes_RK),
            cos_BTD=cos_RTD,
            sin_BTD=sin_RTD,
            mask_B1TS=self._mask_R1TS,
            write_index_B=self._write_index_R,
        )
        launched = self._run(inputs, self._others(rows_M))
        assert self._forward is not None
        logits_RKV = self._forward.head(np.arange(self._num_rows))
        self._count(members)
        return SharedStep(logits_RKV=logits_RKV, first_rows=[member.row for member in members], launched=launched)

    def close(self) -> None:
        """Give the cache back; the streams in it are lost."""
        self._settle()
        forward, self._forward = self._forward, None
        self._members.clear()
        self._num_used = 0
        self._allocate(0, 0)
        if forward is not None:
            forward.close()

    def _run(self, inputs: StepInputs, idle_N: NDArray[np.int64] | None) -> int:
        """Run all layers; returns the number of launched experts. Idle and unused rows launch none."""
        forward, routed, launched = self._forward, self._config.num_routed_experts, 0
        assert forward is not None
        forward.begin(inputs)
        for layer in range(self._config.num_layers):
            weights_NE = forward.trunk(layer)
            if idle_N is not None:
                weights_NE[idle_N] = 0
            self._weights_LRE[layer] = weights_NE
            most_E = np.maximum.reduce(weights_NE, axis=0).tolist()
            picked = [expert for expert, weight in enumerate(most_E[:routed]) if weight]
            for expert in picked:
                forward.expert(layer, expert, weights_NE[:, expert : expert + 1])
            launched += len(picked)
        return launched

    def _others(self, rows_M: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The rows of a step that are not in `rows_M`; None if there are none."""
        if len(rows_M) == self._num_rows:
            return None
        is_other_R = np.ones(self._num_rows, np.bool_)
        is_other_R[rows_M] = False
        return is_other_R.nonzero()[0]

    def _count(self, members: Sequence[Member]) -> None:
        """Count a step of these members."""
        self._picks.add(self._weights_LRE, members, self._members.values())
        for member in members:
            member.model.num_filled += 1
            if member.model.routing is not None:
                for layer, weights_RE in enumerate(self._weights_LRE):
                    member.model.routing(layer, weights_RE[member.row : member.row + member.num_rows])

    def _settle(self) -> None:
        self._picks.settle(self._members.values())

    def _move(self, member: Member, row: int) -> None:
        assert self._forward is not None
        self._forward.copy_rows(self._forward, member.row, row, member.num_rows, member.model.num_filled)
        member.row = row
        self._write_mask(member)

    def _write_mask(self, member: Member) -> None:
        member.model.fill()
        valid_BS = member.model.valid_BS
        rows, slots = slice(member.row, member.row + member.num_rows), min(self._capacity, valid_BS.shape[1])
        self._mask_R1TS[rows] = False
        self._mask_R1TS[rows, 0, 0, :slots] = valid_BS[:, :slots]

    def _fit(self, num_rows: int, num_slots: int) -> None:
        """Make room for `num_rows` rows and `num_slots` positions."""
        rows = self._counts.fitting(num_rows)
        capacity = self._capacity if num_slots <= self._capacity else cache_capacity(num_slots)
        if rows != self._num_rows or capacity != self._capacity:
            self._resize(rows, capacity)

    def _shrink(self) -> None:
        """Remove slots that no stream needs, because they cost every row time."""
        capacity = shrunk_capacity(1 + max(model.num_filled for model in self._members), self._capacity)
        rows = self._counts.fitting(self._num_used)
        if rows != self._num_rows or capacity != self._capacity:
            self._resize(rows, capacity)

    def _resize(self, num_rows: int, capacity: int) -> None:
        if self._forward is None:
            # Always the same number: a backend keeps bindings and memory for the next forward of that number.
            self._forward = self._backend.start(self._counts.most)
        self._forward.resize(num_rows, capacity)
        if capacity == self._capacity and num_rows <= len(self._all_rows.write_index_R):
            self._use_rows(num_rows)
            return
        self._allocate(num_rows, capacity)
        for member in self._members.values():
            self._write_mask(member)

    def _allocate(self, num_rows: int, capacity: int) -> None:
        self._all_rows = _RowInputs.zeros(self._config, num_rows, capacity)
        self._capacity = capacity
        self._use_rows(num_rows)

    def _use_rows(self, num_rows: int) -> None:
        """Step with the first rows of the inputs. Streams often leave and join, and then only this number changes."""
        self._settle()
        rows = self._all_rows
        self._num_rows = num_rows
        self._position_R1, self._mask_R1TS = rows.position_R1[:num_rows], rows.mask_R1TS[:num_rows]
        self._write_index_R, self._weights_LRE = rows.write_index_R[:num_rows], rows.weights_LRE[:, :num_rows]
