"""The folder of voices: stored voices, damage that it survives, and names that never become paths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime import ConfigError
from unimoe_serving.errors import RequestError
from unimoe_serving.voices import VoiceStore, new_voice

PCM_L = np.zeros(1600, np.float32)


def filled(folder: Path, *names: str) -> VoiceStore:
    store = VoiceStore(folder, most=3)
    for name in names:
        store.add(new_voice(name=name, text="hello", model="m", description=""), PCM_L, 16000)
    return store


def test_voices_outlive_the_server(tmp_path: Path) -> None:
    first = filled(tmp_path / "voices", "eve", "../../eve")
    again = VoiceStore(tmp_path / "voices", most=3)
    assert {voice.id: voice for voice in again} == {voice.id: voice for voice in first}
    found = again.find("../../eve", "m")
    assert found is not None and found.recording.is_file()
    assert found.recording.resolve().is_relative_to(tmp_path / "voices")
    assert again.find(found.voice.id, "m") == found
    assert again.find("eve", "other") is None
    again.remove(found.voice.id)
    assert again.find("../../eve", "m") is None and not found.recording.exists()
    assert sorted(path.name for path in (tmp_path / "voices").iterdir()) == [next(iter(again)).id]


def test_limits(tmp_path: Path) -> None:
    store = filled(tmp_path, "a", "b")
    with pytest.raises(RequestError, match="a voice 'a' already"):
        store.add(new_voice(name="a", text="hello", model="m", description=""), PCM_L, 16000)
    store.add(new_voice(name="a", text="hello", model="other", description=""), PCM_L, 16000)
    with pytest.raises(RequestError, match="which is the limit"):
        store.add(new_voice(name="c", text="hello", model="m", description=""), PCM_L, 16000)
    for unknown in ("a", "", ".", "..", "../a", "voice_0000000000000000"):
        with pytest.raises(RequestError, match="no stored voice"):
            store.remove(unknown)
    with pytest.raises(RequestError, match="keeps no voices"):
        VoiceStore(None, most=3).add(new_voice(name="a", text="t", model="m", description=""), PCM_L, 16000)


def test_damage_is_left_out(tmp_path: Path) -> None:
    """Leftovers of a killed server are removed; foreign files are neither changed nor offered."""
    store = filled(tmp_path, "a", "b")
    first, second = store
    (tmp_path / first.id / "voice.json").write_text("{")
    (tmp_path / ".voice_half").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    other = tmp_path / "voice_ffffffffffffffff"
    other.mkdir()
    (other / "voice.json").write_text(json.dumps({"id": second.id}))
    again = VoiceStore(tmp_path, most=3)
    assert [voice.id for voice in again] == [second.id]
    assert not (tmp_path / ".voice_half").exists() and (tmp_path / "notes.txt").exists()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "voices"):
        with pytest.raises(ConfigError, match="cannot keep voices"):
            VoiceStore(folder, most=3)
