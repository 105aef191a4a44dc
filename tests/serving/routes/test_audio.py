"""The speech and music endpoints, called by OpenAI's own client and by curl, decoded by ffmpeg."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.serving.running import LONG, RunningServer, running_server, until
from tests.videos import numbered, write_video
from unimoe_runtime import Limits, SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16
from unimoe_serving.config import ServerLimits
from unimoe_serving.encoders import FORMATS

SPEECH = {"model": "tiny", "input": "Hello.", "voice": "ann"}


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def heard(audio: bytes, rate_hz: int = 16000) -> np.ndarray:
    """The samples that ffmpeg decodes."""
    decode = ["ffmpeg", "-v", "error", "-i", "-", "-f", "s16le", "-ar", str(rate_hz), "-ac", "1", "-"]
    run = subprocess.run(decode, input=audio, capture_output=True, check=True)
    assert not run.stderr, run.stderr
    return np.frombuffer(run.stdout, "<i2")


def offline(library: Synthesizer, **request: object) -> np.ndarray:
    return to_int16(library.synthesize(SynthesisRequest(**request)).pcm_L)  # type: ignore[arg-type]


@pytest.mark.parametrize("response_format", FORMATS)
def test_openai_client_hears_every_format(client: openai.OpenAI, library: Synthesizer, response_format: str) -> None:
    """Lossless formats give the library's samples to the bit, the others the same length and a similar sound."""
    expected = offline(library, text="Hello.", voice="ann", seed=4)
    with client.audio.speech.with_streaming_response.create(
        model="tiny", voice="ann", input="Hello.", response_format=response_format,  # type: ignore[arg-type]
        extra_body={"seed": 4, "sample_rate_hz": 16000},
    ) as response:  # fmt: skip
        audio = b"".join(response.iter_bytes())
        assert response.headers["x-sample-rate"] == "16000"
    if response_format == "pcm":
        np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), expected)
        return
    samples = heard(audio)
    if response_format in ("wav", "flac"):
        np.testing.assert_array_equal(samples, expected)
    else:
        # An encoder's delay and the last frame's padding.
        assert len(expected) <= len(samples) + 1 <= len(expected) + 4096


def test_openai_client_without_extras(client: openai.OpenAI, tmp_path: Path) -> None:
    """The client's default is MP3, and PCM has OpenAI's sample rate."""
    response = client.audio.speech.create(model="tiny", voice="ann", input="Hello.")
    response.write_to_file(tmp_path / "hello.mp3")
    assert len(heard((tmp_path / "hello.mp3").read_bytes())) > 100
    pcm = client.audio.speech.create(model="tiny", voice="ann", input="Hello.", response_format="pcm")
    assert "rate=24000" in pcm.response.headers["content-type"]


def test_openai_async_clients_together(server: RunningServer, library: Synthesizer) -> None:
    """Each of eight concurrent requests gets the audio that it gets alone."""

    async def all_of_them() -> list[bytes]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def one(seed: int) -> bytes:
                response = await client.audio.speech.create(
                    model="tiny", voice="ann", input="Hello.", response_format="pcm",
                    extra_body={"seed": seed, "sample_rate_hz": 16000},
                )  # fmt: skip
                return await response.aread()

            return await asyncio.gather(*map(one, range(8)))

    for seed, audio in enumerate(asyncio.run(all_of_them())):
        expected = offline(library, text="Hello.", voice="ann", seed=seed)
        np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), expected)


def test_openai_client_reads_our_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'tts-1'; it can be tiny") as missing:
        client.audio.speech.create(model="tts-1", voice="ann", input="Hello.")
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="there is no voice 'alloy'; it can be ann"):
        client.audio.speech.create(model="tiny", voice="alloy", input="Hello.")


@pytest.mark.slow
def test_curl_gets_the_first_bytes_with_the_first_chunk(server: RunningServer) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")
    body = json.dumps({**SPEECH, "input": LONG[:500], "response_format": "wav"})
    run = subprocess.run(
        [curl, "-sS", "-N", f"{server.url}/v1/audio/speech", "-H", "content-type: application/json", "-d", body,
         "-w", "%{stderr}%{http_code} %{time_starttransfer} %{time_total}"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    status, first_s, total_s = run.stderr.split()
    assert status == b"200" and float(first_s) < 0.5 * float(total_s)
    assert run.stdout[:4] == b"RIFF" and len(heard(run.stdout)) == (len(run.stdout) - 44) // 2


def test_events(server: RunningServer, library: Synthesizer) -> None:
    """`stream_format: sse` has OpenAI's format; `routing` adds the picks of every step."""
    body = {**SPEECH, "seed": 2, "response_format": "pcm", "sample_rate_hz": 16000, "stream_format": "sse"}
    _, headers, plain = server.ask("POST", "/v1/audio/speech", body)
    assert headers["content-type"].startswith("text/event-stream")
    events = read_events(plain)
    assert {event["type"] for event in events} == {"speech.audio.delta", "speech.audio.done"}
    expected = offline(library, text="Hello.", voice="ann", seed=2)
    np.testing.assert_array_equal(np.frombuffer(audio_of(events), "<i2"), expected)
    usage, figures = events[-1]["usage"], events[-1]["figures"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] == figures["steps"] and figures["caption"] == "hello"

    watched = read_events(server.ask("POST", "/v1/audio/speech", {**body, "routing": True})[2])
    assert watched[0]["type"] == "unimoe.started" and watched[0]["sample_rate_hz"] == 16000
    assert audio_of(watched) == audio_of(events)
    picks = [event for event in watched if event["type"] == "unimoe.routing"]
    assert [event["first_step"] for event in picks] == [
        sum(len(before["picks"]) for before in picks[:index]) for index in range(len(picks))
    ]
    steps = [step for event in picks for step in event["picks"]]
    config = library.bundle.model
    assert len(steps) == figures["steps"] and all(len(step) == config.num_layers for step in steps)
    launched = sum((mask & (1 << config.num_routed_experts) - 1).bit_count() for step in steps for mask in step)
    assert launched == pytest.approx(figures["experts_per_step"] * figures["steps"])


def test_music(server: RunningServer, library: Synthesizer) -> None:
    notes = "flute, 120 bpm: C4 E4"
    body = {"model": "tiny", "input": notes, "seed": 3, "response_format": "pcm", "sample_rate_hz": 16000}
    status, _, audio = server.ask("POST", "/v1/audio/music", body)
    assert status == 200
    np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), offline(library, task="music", text=notes, seed=3))
    short = server.ask("POST", "/v1/audio/music", {**body, "max_seconds": 0.1})[2]
    expected = offline(library, task="music", text=notes, seed=3, limits=Limits(max_s=0.1))
    np.testing.assert_array_equal(np.frombuffer(short, "<i2"), expected)
    assert server.refuses("POST", "/v1/audio/music", {**body, "voice": "kazoo"}).code == "voice_not_found"


def test_music_for_a_video(public_bundle: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", numbered(6), 3, codec="mpeg4")
    with running_server({"public": public_bundle}) as server:
        fields = {"input": "calm", "max_seconds": "0.3", "response_format": "wav", "seed": "2"}
        status, _, audio = server.post_form("/v1/audio/music", fields, ("video", "clip.mp4", clip.read_bytes()))
        assert status == 200, audio
        assert len(heard(audio)) > 0
        status, _, answer = server.post_form("/v1/audio/music", fields, ("video", "clip.mp4", b"no video at all"))
        message = json.loads(answer)["error"]["message"]
        assert status == 400 and "the upload" in message and "/tmp" not in message
        status, _, answer = server.post_form("/v1/audio/music", fields, ("score", "clip.mp4", clip.read_bytes()))
        assert status == 400 and "score" in json.loads(answer)["error"]["message"]


def test_no_bundle_without_a_vision_tower_takes_a_video(server: RunningServer) -> None:
    status, _, answer = server.post_form("/v1/audio/music", {"input": "C4"}, ("video", "a.mp4", b"x"))
    assert status == 400 and "takes no video" in json.loads(answer)["error"]["message"]


def test_a_stream_without_audio_in_time_is_refused(tiny_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(stream_s=0.001)) as server:
        refused = server.refuses("POST", "/v1/audio/speech", {**SPEECH, "input": LONG})
        assert refused.status == 503 and refused.code == "timeout" and "retry-after" in refused.headers
        until(lambda: server.metric("streams_ended_total", outcome="failed") == 1)


def test_what_a_limit_cuts_is_counted_as_cut(server: RunningServer) -> None:
    before = server.metric("streams_ended_total", outcome="cut")
    assert server.ask("POST", "/v1/audio/speech", {**SPEECH, "max_seconds": 0.02})[0] == 200
    until(lambda: server.metric("streams_ended_total", outcome="cut") == before + 1)


def read_events(body: bytes) -> list[dict]:
    return [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n") if event]


def audio_of(events: list[dict]) -> bytes:
    return b"".join(base64.b64decode(event["audio"]) for event in events if event["type"] == "speech.audio.delta")
