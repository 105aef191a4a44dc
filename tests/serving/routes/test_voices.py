"""Voices over HTTP: the bundle's own, and those that a caller uploads, keeps and deletes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openai

from tests.recordings import write_recording
from tests.serving.running import RunningServer, running_server
from unimoe_runtime import Limits, SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16

PATH = "/v1/audio/voices"


def test_what_a_bundle_has(server: RunningServer) -> None:
    voices = json.loads(server.ask("GET", PATH)[2])["data"]
    assert [(voice["id"], voice["task"]) for voice in voices] == [
        ("ann", "speech"), ("bob", "speech"), ("piano", "music"), ("flute", "music"),
    ]  # fmt: skip
    assert all(set(voice) >= {"object", "name", "description", "model", "created_at", "type"} for voice in voices)
    assert json.loads(server.ask("GET", f"{PATH}?model=tiny")[2])["data"] == voices
    assert server.refuses("GET", f"{PATH}?model=other").status == 404


def test_a_bundle_that_does_not_clone_takes_none(server: RunningServer) -> None:
    status, _, answer = server.post_form(PATH, {"name": "eve", "text": "hello"}, ("audio_sample", "a.wav", b"x"))
    assert status == 400 and "does not clone" in json.loads(answer)["error"]["message"]
    assert server.refuses("POST", PATH, {"type": "prompt", "name": "eve", "prompt": "warm"}).param == "type"
    assert server.refuses("DELETE", f"{PATH}/ann").status == 404


def test_a_voice_comes_speaks_and_goes(public_bundle: Path, tmp_path: Path) -> None:
    """OpenAI's client uploads a voice. It sounds as the library clones it; another server on the folder has it too."""
    recording = write_recording(tmp_path / "eve.wav", 220)
    folder = tmp_path / "voices"
    with (
        running_server({"public": public_bundle}, voices_dir=folder) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        voice = client.audio.voices.create(
            audio_sample=recording, consent="", name="eve", extra_body={"text": "this is eve", "description": "warm"}
        )
        assert voice.name == "eve" and voice.id.startswith("voice_")
        speech = {"voice": {"id": voice.id}, "input": "Hello.", "max_seconds": 0.3, "response_format": "pcm",
                  "sample_rate_hz": 16000}  # fmt: skip
        first = server.ask("POST", "/v1/audio/speech", speech)[2]
        assert server.ask("POST", "/v1/audio/speech", {**speech, "voice": "eve"})[2] == first
        with Synthesizer.open(public_bundle) as library:
            cloned = SynthesisRequest(
                text="Hello.", voice=str(folder / voice.id / "recording.wav"), voice_text="this is eve",
                limits=Limits(max_s=0.3),
            )  # fmt: skip
            np.testing.assert_array_equal(np.frombuffer(first, "<i2"), to_int16(library.synthesize(cloned).pcm_L))
        for fields, name, content, told in (
            ({"name": "eve", "text": "t"}, "a.wav", recording.read_bytes(), "already"),
            ({"name": "zoe", "text": " "}, "a.wav", recording.read_bytes(), "words of the recording"),
            ({"name": "zoe"}, "a.wav", recording.read_bytes(), "text is missing"),
            ({"name": "zoe", "text": "t"}, "a.wav", b"noise", "the upload cannot be read"),
            ({"name": "zoe", "text": "t"}, "../../a.exe", recording.read_bytes(), "ends in '.exe'"),
            ({"name": "zoe", "text": "t"}, "a", recording.read_bytes(), "has no ending"),
            ({"name": "z\x1b[31m", "text": "t"}, "a.wav", recording.read_bytes(), "printable"),
            ({"name": "z\noe", "text": "t"}, "a.wav", recording.read_bytes(), "printable"),
        ):
            status, _, answer = server.post_form(PATH, fields, ("audio_sample", name, content))
            message = json.loads(answer)["error"]["message"]
            assert status == 400 and told in message and "/tmp" not in message, message
    with running_server({"public": public_bundle}, voices_dir=folder) as server:
        assert server.ask("POST", "/v1/audio/speech", speech)[2] == first
        stored = folder / voice.id / "recording.wav"
        stored.write_bytes(b"noise")  # another process damages it, or deletes it
        damaged = server.refuses("POST", "/v1/audio/speech", {**speech, "seed": 1})
        stored.unlink()
        missing = server.refuses("POST", "/v1/audio/speech", speech)
        for refused in (damaged, missing):
            assert refused.code == "voice_unreadable" and str(tmp_path) not in refused.message
        deleted = server.ask("DELETE", f"{PATH}/{voice.id}")
        assert json.loads(deleted[2]) == {"object": "audio.voice.deleted", "id": voice.id, "deleted": True}
        assert server.refuses("POST", "/v1/audio/speech", speech).code == "voice_not_found"
        assert list(folder.iterdir()) == []
