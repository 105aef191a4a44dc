"""A user's own recordings: a folder of audio files with their texts.

The texts come from `metadata.csv` (in LJSpeech's format: file|text|text written out), from `metadata.jsonl` (one object
a line with `file` and `text`, optionally `voice` and `split`), or from a .txt file beside each audio file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from unimoe.data.alignment import Aligner, sounds_of
from unimoe.data.flite import WEAK_FORMS, letter_names, phonemise, require_flite
from unimoe.data.recipe import Clip, Job, by_text
from unimoe.data.requirements import require_all, require_pocketsphinx
from unimoe.data.sources import Source, get_source
from unimoe.data.texts import Split
from unimoe_runtime.audio.files import READABLE, read_audio
from unimoe_runtime.errors import ConfigError, OutputError
from unimoe_runtime.files.json import parse_json
from unimoe_runtime.files.text import read_lines, read_text
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.reading import read_phrases

_ALIGNER_RATE_HZ = 16000
_MAX_CHARACTERS = 10_000
_letter_names = functools.cache(letter_names)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One recording and its text. Where `split` is empty, the text's hash decides the split."""

    path: Path
    text: str
    voice: str
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The licence of a folder's recordings."""

    licence: str = ""
    may_ship: bool = False

    def source(self, folder: Path) -> Source:
        if not self.licence:
            if self.may_ship:
                raise ConfigError("weights may be shipped only under a licence: say it with --licence")
            return replace(get_source("folder"), origin=str(folder.name))
        reason = "as whoever imported it says" if self.may_ship else "whoever imported it did not say that it may"
        return replace(
            get_source("folder"), licence=self.licence, origin=folder.name, may_ship=self.may_ship, reason=reason
        )


def read_entries(folder: Path, voice: str) -> list[Entry]:
    """The folder's recordings. Raises OutputError, one line, where there are none or a line of the list is wrong."""
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder: give one with audio files and texts")
    table, lines = folder / "metadata.csv", folder / "metadata.jsonl"
    if table.exists():
        entries = list(_from_table(table, voice))
    elif lines.exists():
        entries = list(_from_lines(lines, voice))
    else:
        audio = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READABLE)
        entries = [
            Entry(path=path, text=read_text(text, OutputError).strip(), voice=voice)
            for path in audio
            if (text := path.with_suffix(".txt")).exists()
        ]
    for entry in entries:
        if not entry.text:
            raise OutputError(f"{entry.path}: its text is empty: write what is said, or leave the recording out")
        if len(entry.text) > _MAX_CHARACTERS:
            raise OutputError(
                f"{entry.path}: its text has {len(entry.text):,} characters, at most {_MAX_CHARACTERS:,} are read: "
                "cut the recording into sentences"
            )
    if not entries:
        raise OutputError(
            f"{folder} has no recordings with texts: put a .txt beside each audio file, or a metadata.csv (file|text)"
        )
    return entries


def _find(folder: Path, name: str, place: str) -> Path:
    """The audio file that a list calls `name`, with or without its suffix and the folder `wavs`."""
    for base in (folder, folder / "wavs"):
        for suffix in ("", *READABLE):
            path = base / f"{name}{suffix}"
            if path.is_file():
                return path
    raise OutputError(f"{place}: there is no audio file {name!r}")


def _from_table(path: Path, voice: str) -> Iterator[Entry]:
    for number, line in enumerate(read_lines(path, OutputError), start=1):
        if not line.strip():
            continue
        name, *texts = (part.strip() for part in line.split("|"))
        if not texts or not texts[-1]:
            raise OutputError(f"{path}:{number}: has no text; lines are file|text or file|text|text written out")
        yield Entry(path=_find(path.parent, name, f"{path}:{number}"), text=texts[-1], voice=voice)


def _from_lines(path: Path, voice: str) -> Iterator[Entry]:
    for number, line in enumerate(read_lines(path, OutputError), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, f"{path}:{number}", OutputError)
            name, text = str(values["file"]), str(values["text"])
            split = str(values.get("split", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise OutputError(f"{path}:{number}: is no object with file and text") from None
        if split and split not in get_args(Split):
            raise OutputError(f"{path}:{number}: split {split!r}; it can be {', '.join(get_args(Split))}")
        found = _find(path.parent, name, f"{path}:{number}")
        yield Entry(path=found, text=text, voice=str(values.get("voice") or voice), split=split)


@functools.cache
def _aligner() -> Aligner:
    return Aligner()


def _lexicon(words: list[str]) -> Lexicon:
    """flite's pronunciations of these words. flite reads any word, so the lexicon needs no rules."""
    plain = sorted({word.lower() for word in words if len(word) > 1 and not word.isupper()})
    known = phonemise(plain) if plain else {}
    return Lexicon(words=_letter_names() | known | WEAK_FORMS | {"i": ("ay",)}, rules={})


def read_all(entries: list[Entry], *, sample_rate_hz: int, align: bool) -> list[Clip]:
    """Clips of some recordings. They have phonemes where `align` is set and the words fit the sound."""
    clips: list[Clip] = []
    for entry in entries:
        spoken = read_phrases(entry.text)
        fields: dict[str, Any] = {
            "domain": "speech", "kind": "recorded", "voice": entry.voice,
            "text": ", ".join(" ".join(word.lower() for word in phrase) for phrase in spoken),
        }  # fmt: skip
        if align and spoken:
            sounds = sounds_of(spoken, _lexicon([word for phrase in spoken for word in phrase]))
            fields["phonemes"] = _aligner()(read_audio(entry.path, _ALIGNER_RATE_HZ), sounds)
        if entry.split:
            fields["split"] = entry.split
        clips.append((fields, read_audio(entry.path, sample_rate_hz)))
    return clips


def plan_import(folder: Path, *, voice: str, terms: Terms, sample_rate_hz: int, align: bool) -> list[Job]:
    """One job for each voice in a folder."""
    if align:
        require_all((require_flite, require_pocketsphinx))
    entries = read_entries(folder, voice)
    render = partial(read_all, sample_rate_hz=sample_rate_hz, align=align)
    return [
        Job(
            name=name,
            render=render,
            wanted=[entry for entry in entries if entry.voice == name],
            source=terms.source(folder),
            split=lambda fields: str(fields.pop("split", "")) or by_text(fields),
            chunk=20,
        )
        for name in dict.fromkeys(entry.voice for entry in entries)
    ]
