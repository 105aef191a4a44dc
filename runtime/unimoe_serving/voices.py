"""Callers' own voices: each is a recording and its words, stored in a folder.

A voice is a folder `ID/` with `voice.json` and `recording.wav`. It is written under another name and renamed, so that
a killed server leaves no incomplete voice; a server that starts leaves alone what another one is writing. Callers name
voices by id or name; no part of a request becomes a path.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime import ConfigError, write_audio
from unimoe_runtime.files.atomic import staging_path
from unimoe_runtime.files.locked_path import remove_leftovers
from unimoe_runtime.files.text import reason_of
from unimoe_serving.errors import RequestError

_ID = re.compile(r"voice_[0-9a-f]{16}")
_RECORD, _RECORDING = "voice.json", "recording.wav"


@dataclass(frozen=True, kw_only=True)
class ClonedVoice:
    """A caller's own voice. `text`: the words of its recording. `model`: the bundle that it belongs to."""

    id: str
    name: str
    text: str
    model: str
    description: str
    created_at: int

    def card(self) -> dict[str, Any]:
        """The form that OpenAI's clients read."""
        return {
            "object": "audio.voice", "id": self.id, "name": self.name, "created_at": self.created_at,
            "type": "audio_sample", "model": self.model, "task": "speech", "description": self.description,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoredVoice:
    """A caller's own voice and its recording's file."""

    voice: ClonedVoice
    recording: Path


class VoiceStore:
    """The folder of voices, read once. It is safe for any number of threads. Raises ConfigError for no such folder."""

    def __init__(self, folder: Path | None, *, most: int) -> None:
        self._folder, self._most = folder, most
        self._lock = Lock()
        self._voices: dict[str, ClonedVoice] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                remove_leftovers(folder, ".voice_")
                self._voices = {voice.id: voice for voice in _read_all(folder)}
            except OSError as error:
                reason = reason_of(error)
                raise ConfigError(f"{folder}: cannot keep voices ({reason}): give a folder of your own") from None

    def __iter__(self) -> Iterator[ClonedVoice]:
        return iter(list(self._voices.values()))

    def find(self, voice: str, model: str) -> StoredVoice | None:
        """A voice of this bundle by its id, or else by its name; None if there is none."""
        own = [known for known in self if known.model == model]
        found = next((known for known in own if known.id == voice), None)
        found = found or next((known for known in own if known.name == voice), None)
        if found is None or self._folder is None:
            return None
        return StoredVoice(voice=found, recording=self._folder / found.id / _RECORDING)

    def add(self, voice: ClonedVoice, pcm_L: NDArray[np.float32], sample_rate_hz: int) -> None:
        """Store a voice. Raises RequestError if there is no folder, no room, or already a voice of this name."""
        if self._folder is None:
            raise RequestError("this server keeps no voices: start it with --voices FOLDER", code="no_voices_folder")
        with self._lock:
            if len(self._voices) >= self._most:
                raise RequestError(f"there are {self._most} voices, which is the limit: delete one", code="too_many")
            if any(known.name == voice.name and known.model == voice.model for known in self):
                raise RequestError(f"there is a voice {voice.name!r} already", param="name", code="name_taken")
            with staging_path(self._folder / voice.id, wait=True) as partial:
                partial.mkdir()
                write_audio(partial / _RECORDING, pcm_L, sample_rate_hz)
                (partial / _RECORD).write_text(json.dumps(asdict(voice), indent=1), encoding="utf-8")
                partial.rename(self._folder / voice.id)
            self._voices[voice.id] = voice

    def remove(self, voice_id: str) -> ClonedVoice:
        """Delete a voice. Raises RequestError 404."""
        with self._lock:
            voice = self._voices.pop(voice_id, None)
            if voice is None or self._folder is None:
                raise RequestError(
                    f"there is no stored voice {voice_id[:100]!r}: give an id that GET /v1/audio/voices lists",
                    status=404, code="voice_not_found",
                )  # fmt: skip
            shutil.rmtree(self._folder / voice.id, ignore_errors=True)
            return voice


def new_voice(*, name: str, text: str, model: str, description: str) -> ClonedVoice:
    """A voice with a new id and the current date."""
    return ClonedVoice(
        id=f"voice_{secrets.token_hex(8)}", name=name, text=text, model=model, description=description,
        created_at=int(time.time()),
    )  # fmt: skip


def _read_all(folder: Path) -> Iterator[ClonedVoice]:
    """The voices of a folder, oldest first, without damaged ones."""
    found = []
    for path in folder.iterdir():
        if not _ID.fullmatch(path.name) or not (path / _RECORDING).is_file():
            continue
        try:
            voice = ClonedVoice(**json.loads((path / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if voice.id == path.name:
            found.append(voice)
    yield from sorted(found, key=lambda voice: (voice.created_at, voice.id))
