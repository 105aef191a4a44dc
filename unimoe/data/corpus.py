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
from typing import Annotated, Any, Literal

import numpy as np

from unimoe.data.melodies import Note
from unimoe_runtime.errors import ConfigError, UnimoeError
from unimoe_runtime.files.atomic import atomic_file, write_atomically
from unimoe_runtime.files.json import parse_json
from unimoe_runtime.files.text import read_lines, reason_of
from unimoe_runtime.records import Between, JsonRecord, require

FORMAT = "unimoe-corpus"
INDEX = "index.jsonl"
FORMAT_VERSION = 1
_MAX_INDEX_BYTES = 4 << 30

Domain = Literal["speech", "music"]
Kind = Literal[
    "digits", "commands", "phrases", "sentences", "pairs", "recorded", "definitions", "lines", "dialogue", "questions",
    "numbers", "dates", "names", "announcements", "words", "letters", "long",
    "melody", "scale", "arpeggio", "tune", "harmony", "chorale", "recording",
]  # fmt: skip
"""Kinds of clips. The last line is music ("recording": a band), the others are speech ("recorded": people)."""


class CorpusError(UnimoeError):
    """A corpus folder is missing, damaged, or of another version."""


@dataclass(frozen=True, kw_only=True)
class _Header(JsonRecord):
    """The first line of an index."""

    sample_rate_hz: Annotated[int, Between(1000, 768_000)]
    sources: Mapping[str, str]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def check_together(self) -> None:
        for name in self.sources:
            require(Path(name).name == name and name not in ("", ".."), "sources", name, "names of files")


_Seconds = Annotated[float, Between(0, 1e6)]
_Samples = Annotated[int, Between(0, 1 << 48)]


_ALWAYS = ("text", "offset")  # written to the index even where they are empty


@dataclass(frozen=True, kw_only=True)
class Item(JsonRecord):
    """One clip with what is known about it: a line of the index, and the audio of its source.

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
    offset: _Samples
    length: _Samples
    voice: str = ""
    phonemes: tuple[tuple[str, _Seconds], ...] = ()
    word_numbers: tuple[Annotated[int, Between(-1, 1 << 31)], ...] = ()
    instrument: str = ""
    tempo_bpm: Annotated[int, Between(0, 10_000)] = 0
    notes: tuple[Note, ...] = ()
    key: str = ""
    piece: str = ""
    clip: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)
    audio_L: np.ndarray = field(repr=False, compare=False)

    def check_together(self) -> None:
        count, needed = len(self.word_numbers), len(self.phonemes)
        require(count in (0, needed), "word_numbers", f"a list of {count}", f"as many as phonemes, {needed}, or none")

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
        index = Path(folder) / INDEX
        if not index.exists():
            raise CorpusError(f"{index} is missing: `unimoe data render`, `import` and `gather` make a corpus")
        lines = read_lines(index, CorpusError, max_bytes=_MAX_INDEX_BYTES)
        header = _read_header(index, lines)
        audio = {name: _open_audio(Path(folder) / f"{name}.npy") for name in header.sources}
        items = []
        for number, line in enumerate(lines[1:], start=2):
            where = f"{index}:{number}"
            try:
                item = _read_item(parse_json(line, where, CorpusError), audio)
            except ConfigError as error:
                raise CorpusError(f"{where}: {error}; render the corpus again") from None
            if item.offset + item.length > len(item.audio_L):
                raise CorpusError(f"{index}: {item.source}.npy is shorter than its items need; render the corpus again")
            items.append(item)
        return cls(
            sample_rate_hz=header.sample_rate_hz, licences=header.sources, items=tuple(items), details=header.details
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


def _read_header(index: Path, lines: Sequence[str]) -> _Header:
    where = f"{index}:1"
    header = parse_json(lines[0] if lines else "", where, CorpusError)
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        raise CorpusError(f"{index} is not a {FORMAT} of version {FORMAT_VERSION}: render it again")
    try:
        return _Header.from_dict(header, ignore_unknown=True)
    except ConfigError as error:
        raise CorpusError(f"{where}: {error}; render the corpus again") from None


def _read_item(fields: Any, audio: Mapping[str, np.ndarray]) -> Item:
    """The item of a line's fields. `audio`: by source. Raises ConfigError."""
    if isinstance(fields, dict):
        source = fields.get("source")
        audio_L = audio.get(source) if isinstance(source, str) else None
        require(audio_L is not None, "source", source, "a source of the first line")
        fields = {**fields, "audio_L": audio_L}
    return Item.from_dict(fields)


def _open_audio(path: Path) -> np.ndarray:
    try:
        audio_L: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: a damaged one raises anything
        raise CorpusError(f"{path} cannot be read ({reason_of(error)}): render the corpus again") from None
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
    # Written, not mapped: where the disk is full, a mapped page would end the process.
    header = {"descr": "<i2", "fortran_order": False, "shape": (int(offsets[-1]),)}
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for clip in clips:
            file.write(to_int16(clip).astype("<i2", copy=False).tobytes())
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
    write_atomically(folder / INDEX, "\n".join(lines) + "\n")
