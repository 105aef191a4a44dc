"""A rendered corpus on disk: audio as one int16 array per source, and one index of all items.

    DIR/index.jsonl     first line: the header (format, rate, sources and their licences); then an item a line
    DIR/SOURCE.npy      int16 mono samples of all items of that source, one after another; memory-mapped

Shapes: L samples.
"""

from __future__ import annotations

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


class CorpusError(UnimoeError):
    """A corpus folder is missing, damaged, or of another version."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip with what is known about it.

    Speech has `voice` and `phonemes` (phoneme and end time in seconds, in order); music has `instrument`,
    `tempo_bpm` and `notes`. `text` is the words, or the note names of a melody.
    """

    source: str
    domain: Domain
    kind: Literal["digits", "commands", "phrases", "melody"]
    text: str
    split: Literal["train", "valid", "test"]
    offset: int
    length: int
    voice: str = ""
    phonemes: tuple[tuple[str, float], ...] = ()
    instrument: str = ""
    tempo_bpm: int = 0
    notes: tuple[Note, ...] = ()
    audio_L: np.ndarray = field(repr=False, compare=False)

    def pcm(self) -> np.ndarray:
        """The clip as float32 mono samples in -1 … 1."""
        return self.audio_L[self.offset : self.offset + self.length].astype(np.float32) / 32768

    def request(self) -> tuple[str, str, str]:
        """The (task, text, voice) with which the clip would be asked for."""
        if self.domain == "speech":
            return "speech", self.text, self.voice
        return "music", f"{self.instrument}, {self.tempo_bpm} bpm: {self.text}", self.instrument

    def to_dict(self) -> dict[str, Any]:
        """The item's line of the index; empty fields are left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "audio_L"}
        values["notes"] = [asdict(note) for note in self.notes]
        return {name: value for name, value in values.items() if value not in ("", 0, [], ()) or name == "offset"}


@dataclass(frozen=True, kw_only=True)
class Corpus(Sequence[Item]):
    """All items of a corpus folder, in the order of the index."""

    sample_rate_hz: int
    licences: Mapping[str, str]
    items: tuple[Item, ...]

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus folder; audio is mapped, not read. Raises CorpusError when it is not a corpus."""
        index = Path(folder) / "index.jsonl"
        try:
            lines = index.read_text(encoding="utf-8").splitlines()
            header = json.loads(lines[0])
        except (OSError, IndexError, ValueError) as error:
            raise CorpusError(
                f"{index} is no corpus index ({error}): render one with `python -m unimoe.data.rendering`"
            ) from None
        if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
            raise CorpusError(f"{index} is not a {FORMAT} of version {FORMAT_VERSION}: render it again")
        audio = {name: _open_audio(Path(folder) / f"{name}.npy") for name in header["sources"]}
        items = []
        for line in lines[1:]:
            values = json.loads(line)
            values["phonemes"] = tuple((phoneme, end_s) for phoneme, end_s in values.get("phonemes", ()))
            values["notes"] = tuple(Note(**note) for note in values.get("notes", ()))
            item = Item(**values, audio_L=audio[values["source"]])
            if item.offset + item.length > len(item.audio_L):
                raise CorpusError(f"{index}: {item.source}.npy is shorter than its items need; render the corpus again")
            items.append(item)
        return cls(sample_rate_hz=header["sample_rate_hz"], licences=header["sources"], items=tuple(items))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

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


def write_audio(path: Path, clips: Sequence[np.ndarray]) -> list[int]:
    """Write float clips of one source one after another as int16. Returns each clip's offset."""
    offsets = np.cumsum([0] + [len(clip) for clip in clips])
    audio_L = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(int(offsets[-1]),))
    for offset, clip in zip(offsets, clips, strict=False):
        audio_L[offset : offset + len(clip)] = np.round(np.clip(clip, -1, 1) * 32767)
    audio_L.flush()
    return [int(offset) for offset in offsets[:-1]]


def write_index(
    folder: Path,
    items: Iterable[Mapping[str, Any]],
    *,
    sample_rate_hz: int,
    licences: Mapping[str, str],
    seed: int,
) -> None:
    """Write the index last, so that a folder with an index is complete."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sample_rate_hz": sample_rate_hz,
        "seed": seed,
        "sources": dict(licences),
    }
    lines = [json.dumps(header), *(json.dumps(item) for item in items)]
    partial = folder / "index.jsonl.partial"
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(folder / "index.jsonl")
