"""Training examples of the token model: prompt ids on the timeline, delayed codec rows, and the guide's target.

Shape suffixes: T frames, R rows of delayed codes, K codebooks, P prompt positions, N examples, L samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimoe.codec.base import Codec
from unimoe.data.codes import encode_clips
from unimoe.data.corpus import Item
from unimoe.training.frontend import recorded_timeline
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.atomic import atomic_file
from unimoe_runtime.frontend.notation import parse_chords
from unimoe_runtime.frontend.timeline import Timeline, TimelineFrontEnd
from unimoe_runtime.model.delay_pattern import delay_codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One clip as a training example.

    `spoken_T`: prompt position of the phoneme or note that sounds in each frame; -1 where it is not known.
    """

    ids_P: np.ndarray
    positions_P: np.ndarray
    rows_RK: np.ndarray
    spoken_T: np.ndarray
    domain: str

    @property
    def length(self) -> int:
        """Positions of the training row: the prompt and one position for each predicted row."""
        return len(self.ids_P) + len(self.rows_RK) - 1


def encode_items(items: Sequence[Item], codec: Codec, path: Path) -> list[np.ndarray]:
    """Codes [T, K] of every clip, in their order. Also writes them to `path` (.npz)."""
    codes = encode_clips(items, codec)
    write_codes(path, codes)
    return codes


def write_codes(path: Path, codes: Sequence[np.ndarray]) -> None:
    """Write the codes [T, K] of clips (.npz). A killed write leaves no file."""
    lengths_N = np.array([len(frames) for frames in codes])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        np.savez(partial, codes=np.concatenate(codes), lengths=lengths_N)


def read_codes(path: Path, num_clips: int) -> list[np.ndarray]:
    """Codes that `write_codes` wrote. Raises CheckpointError where they are of another number of clips."""
    with np.load(path, allow_pickle=False) as file:
        codes, lengths_N = file["codes"], file["lengths"]
    if len(lengths_N) != num_clips:
        raise CheckpointError(f"{path} has {len(lengths_N)} clips, the corpus {num_clips}: remove it and start again")
    return np.split(codes, np.cumsum(lengths_N)[:-1])


def make_examples(
    items: Sequence[Item], codes: Sequence[np.ndarray], frontend: TimelineFrontEnd, config: ModelConfig
) -> list[Example]:
    """Examples of clips and their codes."""
    return [make_example(item, codes_TK, frontend, config) for item, codes_TK in zip(items, codes, strict=True)]


def make_example(item: Item, codes_TK: np.ndarray, frontend: TimelineFrontEnd, config: ModelConfig) -> Example:
    timeline = recorded_timeline(item) if item.word_numbers else frontend.timeline(*item.request())
    ids, positions = frontend.row(timeline)
    return Example(
        ids_P=np.array(ids, dtype=np.int64),
        positions_P=np.array(positions, dtype=np.float32),
        rows_RK=delay_codes(codes_TK, config),
        spoken_T=spoken(item, timeline, len(codes_TK), frontend.frame_rate_hz),
        domain=item.domain,
    )


def spoken(item: Item, timeline: Timeline, num_frames: int, frame_rate_hz: float) -> np.ndarray:
    """For each frame, the prompt position of the sound in the recording; -1 where the prompt has no such token.

    Segment s of the timeline has position s + 1, after the voice.
    """
    tokens = [segment.token for segment in timeline.segments]
    if item.domain == "speech":
        sounding = [(f"phoneme:{phoneme}", end_s) for phoneme, end_s in item.phonemes]
    else:
        starts_s = [note.start_s for note in item.notes]
        # The last note of a chord stands for all of it: the other notes of the chord end where they start.
        last_s = parse_chords(item.text)[-1].beats * 60 / item.tempo_bpm
        ends_s = [*starts_s[1:], starts_s[-1] + last_s]
        sounding = [(tokens[0], starts_s[0])]
        sounding += [(f"note:{note.pitch}", end_s) for note, end_s in zip(item.notes, ends_s, strict=True)]
        sounding.append((tokens[-1], num_frames / frame_rate_hz))
    place = np.full(len(sounding), -1)
    matcher = difflib.SequenceMatcher(None, [token for token, _ in sounding], tokens, autojunk=False)
    for block in matcher.get_matching_blocks():
        place[block.a : block.a + block.size] = np.arange(block.b, block.b + block.size) + 1
    middles_s_T = (np.arange(num_frames) + 0.5) / frame_rate_hz
    segment_T = np.searchsorted([end_s for _, end_s in sounding], middles_s_T, side="right")
    return place[np.minimum(segment_T, len(sounding) - 1)]
