"""A rendered corpus on disk: audio as one int16 array per source, and one index of all items.

    DIR/index.jsonl     first line: the header (format, rate, sources and their licences); then one item a line
    DIR/SOURCE.npy      int16 mono samples of all items of that source, concatenated; memory-mapped

Shapes: L samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unimoe.data.melodies import Note
from unimoe_runtime.errors import UnimoeError

FORMAT = "unimoe-corpus"
FORMAT_VERSION = 1

Domain = Literal["speech", "music"]
Kind = Literal[
    "digits", "commands", "phrases", "sentences", "pairs", "recorded", "definitions", "lines", "dialogue", "questions",
    "numbers", "dates", "names", "announcements", "words", "letters", "long",
    "melody", "scale", "arpeggio", "tune", "harmony", "chorale", "recording",
]  # fmt: skip
"""Kinds of clips. The last line is music ("recording": a band), the others are speech ("recorded": people)."""


class CorpusError(UnimoeError):
    """A corpus folder is missing, damaged, or of another version."""


_ALWAYS = ("text", "offset")  # written to the index even where they are empty


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip with what is known about it.

    Speech has `voice` and `phonemes` (phoneme and end time in seconds, in order), and may have `word_numbers` (the
    number of each phoneme's word, -1 for pauses). Music has `instrument`, `tempo_bpm` and `notes`, and may have a
    `key`. `text` is the words, or the notes as they are written; recorded music has none. `piece`: the piece that the
    clip is a part or a version of. `clip`: `hash_clip` of its samples. `metrics`: the results of `unimoe data filter`.
    """

    source: str
    domain: Domain
    kind: Kind
    text: str
    split: Literal["train", "valid", "test"]
    offset: int
    length: int
    voice: str = ""
    phonemes: tuple[tuple[str, float], ...] = ()
    word_numbers: tuple[int, ...] = ()
    instrument: str = ""
    tempo_bpm: int = 0
    notes: tuple[Note, ...] = ()
    key: str = ""
    piece: str = ""
    clip: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)
    audio_L: np.ndarray = field(repr=False, compare=False)

    def samples(self) -> np.ndarray:
        """The clip as int16 mono samples."""
        return self.audio_L[self.offset : self.offset + self.length]

    def pcm(self) -> np.ndarray:
        """The clip as float32 mono samples in -1 … 1."""
        return self.samples().astype(np.float32) / 32768

    @property
    def captioned(self) -> bool:
        """Whether content and timing are known. Clips without them train a codec, but no token model."""
        return bool(self.phonemes if self.domain == "speech" else self.notes)

    def request(self) -> tuple[str, str, str]:
        """The (task, text, voice) that would request this clip."""
        if self.domain == "speech":
            return "speech", self.text, self.voice
        return "music", f"{self.instrument}, {self.tempo_bpm} bpm: {self.text}", self.instrument

    def to_dict(self) -> dict[str, Any]:
        """The item's line of the index; empty fields are left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "audio_L"}
        values["word_numbers"] = list(self.word_numbers)
        values["notes"] = [asdict(note) for note in self.notes]
        return {name: value for name, value in values.items() if value not in ("", 0, [], (), {}) or name in _ALWAYS}


@dataclass(frozen=True, kw_only=True)
class Corpus(Sequence[Item]):
    """All items of a corpus folder, in the order of the index."""

    sample_rate_hz: int
    licences: Mapping[str, str]
    items: tuple[Item, ...]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further fields of each source: those of `unimoe.data.sources.Source`. Old corpora have none."""

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus folder. Audio is mapped, not read. Raises CorpusError where the folder is no corpus."""
        index = Path(folder) / "index.jsonl"
        try:
            lines = index.read_text(encoding="utf-8").splitlines()
            header = json.loads(lines[0])
        except (OSError, IndexError, ValueError) as error:
            raise CorpusError(f"{index} is no corpus index ({error}): render one with `unimoe data render`") from None
        if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
            raise CorpusError(f"{index} is not a {FORMAT} of version {FORMAT_VERSION}: render it again")
        audio = {name: _open_audio(Path(folder) / f"{name}.npy") for name in header["sources"]}
        items = []
        for line in lines[1:]:
            values = json.loads(line)
            values["phonemes"] = tuple((phoneme, end_s) for phoneme, end_s in values.get("phonemes", ()))
            values["word_numbers"] = tuple(values.get("word_numbers", ()))
            values["notes"] = tuple(Note(**note) for note in values.get("notes", ()))
            item = Item(**values, audio_L=audio[values["source"]])
            if item.offset + item.length > len(item.audio_L):
                raise CorpusError(f"{index}: {item.source}.npy is shorter than its items need; render the corpus again")
            items.append(item)
        return cls(
            sample_rate_hz=header["sample_rate_hz"],
            licences=header["sources"],
            items=tuple(items),
            details=header.get("details", {}),
        )

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def summary(self, folder: Path) -> str:
        """One line: clips, hours and the folder."""
        hours = sum(item.length for item in self.items) / self.sample_rate_hz / 3600
        return f"{len(self.items):,} clips, {hours:.2f} hours in {folder}"

    def select(self, *, split: str | None = None, domain: str | None = None, kind: str | None = None) -> list[Item]:
        """Items of one split, domain or kind; None means all."""
        wanted = {"split": split, "domain": domain, "kind": kind}
        return [
            item
            for item in self.items
            if all(value is None or getattr(item, name) == value for name, value in wanted.items())
        ]


def _open_audio(path: Path) -> np.ndarray:
    try:
        audio_L: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} cannot be read ({error}): render the corpus again") from None
    if audio_L.dtype != np.int16 or audio_L.ndim != 1:
        raise CorpusError(f"{path} holds {audio_L.dtype} of {audio_L.ndim} dimensions; one of int16 was expected")
    return audio_L


def to_int16(pcm_L: np.ndarray) -> np.ndarray:
    """Float samples in -1 … 1 as int16. int16 samples stay unchanged."""
    if pcm_L.dtype == np.int16:
        return pcm_L
    return np.round(np.clip(pcm_L, -1, 1) * 32767).astype(np.int16)


def hash_clip(samples_L: np.ndarray) -> str:
    """Name of a clip: the first 16 digits of the SHA-256 of its int16 samples."""
    return hashlib.sha256(np.ascontiguousarray(samples_L, dtype="<i2").tobytes()).hexdigest()[:16]


def write_audio(path: Path, clips: Sequence[np.ndarray]) -> list[int]:
    """Write the concatenated clips of one source (float or int16). Returns each clip's offset."""
    offsets = np.cumsum([0] + [len(clip) for clip in clips])
    partial = path.with_name(f"{path.name}.partial")
    audio_L = np.lib.format.open_memmap(partial, mode="w+", dtype=np.int16, shape=(int(offsets[-1]),))
    for offset, clip in zip(offsets, clips, strict=False):
        audio_L[offset : offset + len(clip)] = to_int16(clip)
    audio_L.flush()
    partial.replace(path)
    return [int(offset) for offset in offsets[:-1]]


def write_index(
    folder: Path,
    items: Iterable[Mapping[str, Any]],
    *,
    sample_rate_hz: int,
    licences: Mapping[str, str],
    seed: int,
    details: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write the index. It comes last, so that a folder with an index is complete."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sample_rate_hz": sample_rate_hz,
        "seed": seed,
        "sources": dict(licences),
        "details": {source: dict(facts) for source, facts in (details or {}).items()},
    }
    lines = [json.dumps(header), *(json.dumps(item) for item in items)]
    partial = folder / "index.jsonl.partial"
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(folder / "index.jsonl")
