"""The one generation loop, for the torch model and for every backend of the runtime.

Shape suffixes: B model rows, U utterances (B = U, or 2 U where rows come as pairs), T prompt positions,
K codebooks, V ids of one codebook, P prompt codec rows, R decode steps.

Semantics are those of the public model's `generate` (order of sampling: see `sampling`): the prompt is prefilled,
the first decode step reads a row of BOS, and step s writes delayed row s. A codebook's rows before its delay are
forced to BOS. If codebook 0 draws EOS in row e, or row e is the last that leaves room for the delays, the
utterance has e frames; the other codebooks continue for their delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.sampling import guide, mask_special_ids, sample


class PromptFields(TypedDict, total=False):
    """Fields of `Prompt` that do not depend on how its rows are padded."""

    codec_ids_PK: NDArray[np.int64] | None
    placeholder_id: int | None
    paired: bool
    num_shared: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """The input that a model reads before its first audio row.

    `text_ids_BT` int64, padded on the left; `mask_BT` bool, False where padded.
    `positions` float32 [B, T], or [3, B, T] with M-RoPE; fractions are allowed.
    `first_position_B` float32: position of the first decode step's input; step s has position first_position + s.
    `codec_ids_PK` int64: codec rows that replace `placeholder_id`, over the batch in row order.
    `video_embeddings_VC` float32: embeddings that replace `video_token_id`, in the same order; V video tokens,
    C hidden. A clip that two rows share is listed twice.
    `paired`: rows are [unconditional, conditional] pairs, one pair per utterance.
    `num_shared`: the number of leading tokens that all rows share (with positions, codec rows and video) and that
    other prompts may share as well, such as a voice or a template's words.
    """

    text_ids_BT: NDArray[np.int64]
    mask_BT: NDArray[np.bool_]
    positions: NDArray[np.float32]
    first_position_B: NDArray[np.float32]
    codec_ids_PK: NDArray[np.int64] | None = None
    placeholder_id: int | None = None
    video_embeddings_VC: NDArray[np.float32] | None = None
    video_token_id: int | None = None
    paired: bool = False
    num_shared: int = 0

    def __post_init__(self) -> None:
        shape = self.text_ids_BT.shape
        if len(shape) != 2 or 0 in shape:
            raise PromptError(f"a prompt needs ids of shape [rows, positions], not {list(shape)}")
        if self.mask_BT.shape != shape or self.positions.shape not in (shape, (3, *shape)):
            raise PromptError("a prompt's mask and positions must have the shape of its ids")
        if self.first_position_B.shape != shape[:1]:
            raise PromptError(f"a prompt of {shape[0]} rows needs as many first positions")
        if self.paired and shape[0] % 2:
            raise PromptError(f"{shape[0]} rows cannot be pairs of unconditional and conditional")
        if not self.mask_BT[:, -1].all():
            raise PromptError("a prompt is padded on the left: its last position must hold a token in every row")
        if not 0 <= self.num_shared < int(self.mask_BT.sum(axis=1).min()):
            raise PromptError(f"rows cannot share {self.num_shared} tokens: each needs one more of its own")
        num_codec_rows = 0 if self.codec_ids_PK is None else len(self.codec_ids_PK)
        num_places = 0 if self.placeholder_id is None else int((self.text_ids_BT == self.placeholder_id).sum())
        if num_codec_rows != num_places:
            raise PromptError(f"the prompt has {num_places} places for codec rows and {num_codec_rows} codec rows")
        num_video_rows = 0 if self.video_embeddings_VC is None else len(self.video_embeddings_VC)
        num_places = 0 if self.video_token_id is None else int((self.text_ids_BT == self.video_token_id).sum())
        if num_video_rows != num_places:
            raise PromptError(f"the prompt has {num_places} video tokens and {num_video_rows} video embeddings")

    @property
    def num_rows(self) -> int:
        return int(self.text_ids_BT.shape[0])

    @property
    def num_utterances(self) -> int:
        return self.num_rows // 2 if self.paired else self.num_rows

    @classmethod
    def from_rows(
        cls,
        text_ids: Sequence[Sequence[int] | NDArray[np.int64]],
        *,
        positions: Sequence[Sequence[float] | NDArray[np.float32]] | None = None,
        first_positions: Sequence[float] | None = None,
        pad_id: int = 0,
        **fields: Unpack[PromptFields],
    ) -> Prompt:
        """Pad rows of different lengths on the left; `fields` are the prompt's other fields.

        Without `positions` a row's tokens have positions 0, 1, …; without `first_positions` audio follows the last one.
        """
        lengths = [len(row) for row in text_ids]
        shape = (len(lengths), max(lengths, default=0))
        ids_BT = np.full(shape, pad_id, dtype=np.int64)
        mask_BT = np.zeros(shape, dtype=np.bool_)
        positions_BT = np.ones(shape, dtype=np.float32)  # the public model's value for padded positions
        for row, length in enumerate(lengths):
            start = shape[1] - length
            ids_BT[row, start:] = text_ids[row]
            mask_BT[row, start:] = True
            positions_BT[row, start:] = np.arange(length) if positions is None else positions[row]
        return cls(
            text_ids_BT=ids_BT,
            mask_BT=mask_BT,
            positions=positions_BT,
            first_position_B=np.asarray(lengths if first_positions is None else first_positions, dtype=np.float32),
            **fields,
        )


class LanguageModel(Protocol):
    """The model's interface to the loop. One object serves one generation at a time; `prefill` restarts it."""

    def prefill(self, prompt: Prompt) -> None:
        """Read the prompt into the key/value cache."""

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read one codec row per model row, at `position_B`; returns float32 logits [B, K, V] of the next row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Result of one decode step.

    `codes_UK` int64: delayed row `index`; undefined where the utterance has already ended (`active_U` False).
    `frame_UK` int64: frame `index - max delay`, complete with this row; zeros where `has_frame_U` is False.
    `num_frames_U` int64: frames of each utterance; -1 until its end is known.
    """

    index: int
    codes_UK: NDArray[np.int64]
    active_U: NDArray[np.bool_]
    frame_UK: NDArray[np.int64]
    has_frame_U: NDArray[np.bool_]
    num_frames_U: NDArray[np.int64]


def generate(
    model: LanguageModel, prompt: Prompt, config: ModelConfig, sampling: SamplingConfig, *, seed: int = 0
) -> Iterator[Step]:
    """Decode until every utterance has ended; yields after each step, so that frames can leave at once.

    The same seed gives the same codes. Closing the iterator stops decoding.
    Raises PromptError if guidance is requested and the prompt's rows are not paired.
    """
    require_pairs(prompt, sampling)
    return _generate(model, prompt, config, sampling, np.random.default_rng(seed))


def require_pairs(prompt: Prompt, sampling: SamplingConfig) -> None:
    """Raise PromptError if guidance is requested and the prompt's rows are not paired."""
    if sampling.guidance_scale and not prompt.paired:
        raise PromptError("guidance needs a prompt of [unconditional, conditional] pairs; set guidance_scale to 0")


def _generate(
    model: LanguageModel, prompt: Prompt, config: ModelConfig, sampling: SamplingConfig, rng: np.random.Generator
) -> Iterator[Step]:
    utterances = [Utterance(config, sampling) for _ in range(prompt.num_utterances)]
    codes_UK = np.array([utterance.codes for utterance in utterances])
    no_frame = [0] * config.num_codebooks
    model.prefill(prompt)
    for index in count():
        codes_BK = codes_UK.repeat(2, axis=0) if prompt.paired else codes_UK
        logits_UKV = guide(model.step(codes_BK, prompt.first_position_B + np.float32(index)), prompt.paired, sampling)
        mask_special_ids(logits_UKV, config, sampling, allow_eos=index >= sampling.min_steps)
        drawn_UK = sample(logits_UKV, sampling, config.eos_id, rng).tolist()
        frames = [utterance.accept(codes) for utterance, codes in zip(utterances, drawn_UK, strict=True)]
        codes_UK = np.array([utterance.codes for utterance in utterances])
        yield Step(
            index=index,
            codes_UK=codes_UK.copy(),
            active_U=np.array([utterance.was_active for utterance in utterances]),
            frame_UK=np.array([no_frame if frame is None else frame for frame in frames]),
            has_frame_U=np.array([frame is not None for frame in frames]),
            num_frames_U=np.array([utterance.num_frames for utterance in utterances]),
        )
        if all(utterance.ended for utterance in utterances):
            return


class Utterance:
    """One utterance's rows of codes: forced codes before a codebook's delay and after the end, and whole frames.

    `codes` is the row that the next step reads, `index` that step's number. `num_frames` is -1 until the end is known.
    `ended`: no step is left. The lists are plain Python, because a step has few codes and the overhead of numpy's calls
    would exceed the work.
    """

    def __init__(self, config: ModelConfig, sampling: SamplingConfig) -> None:
        self._eos, self._pad, self._bos = config.eos_id, config.pad_id, config.bos_id
        self._delays = config.delay_pattern
        self._max_delay = max(config.delay_pattern)
        self._last_row = max(sampling.max_steps - self._max_delay - 1, 0)  # the public limit counts the row of BOS
        self._rows: list[list[int]] = [[]] * (self._max_delay + 1)  # a ring buffer of the last rows
        self.codes = [config.bos_id] * config.num_codebooks
        self.index, self.num_frames = 0, -1
        self.was_active, self.ended = True, False

    def accept(self, codes: list[int]) -> list[int] | None:
        """Take the row that a step drew. Returns the frame that it completes, or None."""
        index, delays, max_delay, end = self.index, self._delays, self._max_delay, self.num_frames
        if end < 0 and (codes[0] == self._eos or index >= self._last_row):
            end = self.num_frames = index
        active = self.was_active = end < 0 or index == end or index < end + max_delay
        if active and end >= 0:
            for codebook, delay in enumerate(delays):
                past = index - end - delay  # rows since this codebook's own end
                if past >= 0:
                    codes[codebook] = self._pad if past else self._eos
        if index < max_delay:
            for codebook, delay in enumerate(delays):
                if index < delay:
                    codes[codebook] = self._bos
        rows, ring = self._rows, max_delay + 1
        rows[index % ring] = self.codes = codes
        self.index = index + 1
        self.ended = end >= 0 and self.index >= end + max_delay
        frame = index - max_delay
        if frame < 0 or not active or (0 <= end <= frame):
            return None
        return [rows[(frame + delay) % ring][codebook] for codebook, delay in enumerate(delays)]


def collect_frames(steps: Iterable[Step]) -> list[NDArray[np.int64]]:
    """Run a generation to its end: each utterance's frames [T, K], without the delay."""
    frames: list[list[NDArray[np.int64]]] = []
    width = 0
    for step in steps:
        frames = frames or [[] for _ in step.has_frame_U]
        width = step.frame_UK.shape[1]
        for utterance in np.flatnonzero(step.has_frame_U):
            frames[utterance].append(step.frame_UK[utterance])
    return [np.stack(rows) if rows else np.zeros((0, width), dtype=np.int64) for rows in frames]
