"""Text in pieces over a WebSocket: audio comes sentence by sentence, and interrupting works at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.serving.running import LONG, RunningServer, until
from unimoe_runtime import SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16

START = {"type": "start", "model": "tiny", "voice": "ann", "seed": 2, "sample_rate_hz": 16000}


@pytest.fixture
def socket(server: RunningServer) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{server.port}/v1/audio/stream", max_size=None) as opened:
        yield opened
    server.wait_idle()


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection, last: str) -> tuple[list[dict], bytes]:
    """Messages up to the first one of a type, and the audio before it."""
    messages, audio = [], b""
    while True:
        message = socket.recv(timeout=30)
        if isinstance(message, bytes):
            audio += message
            continue
        messages.append(json.loads(message))
        if messages[-1]["type"] == last:
            return messages, audio


def test_sentences_are_spoken_as_they_end(socket: ClientConnection, library: Synthesizer) -> None:
    """The first sentence sounds before the second is sent; each has the audio that the library gives it alone."""
    send(socket, **START)
    started = hear(socket, "started")[0][-1]
    assert started == {"type": "started", "model": "tiny", "sample_rate_hz": 16000, "format": "pcm"}
    for piece in ("Hel", "lo. ", "I"):
        send(socket, type="text", text=piece)
    messages, first = hear(socket, "sentence_end")
    assert [message["type"] for message in messages] == ["sentence", "sentence_end"]
    assert messages[0]["text"] == "Hello." and messages[1]["figures"]["steps"] > 0
    send(socket, type="text", text=" do hope")
    send(socket, type="flush")
    messages, second = hear(socket, "done")
    assert [message.get("text") for message in messages if message["type"] == "sentence"] == ["I do hope"]
    for audio, text in ((first, "Hello."), (second, "I do hope")):
        expected = to_int16(library.synthesize(SynthesisRequest(text=text, voice="ann", seed=2)).pcm_L)
        np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), expected)


def test_barge_in(socket: ClientConnection, server: RunningServer) -> None:
    """After `cancelled` no audio of the old text comes, its rows are free in a few steps, and a new text is spoken."""
    cancelled = server.metric("streams_ended_total", outcome="cancelled")
    send(socket, **START)
    send(socket, type="text", text=LONG)
    send(socket, type="text", text=" Well.")
    hear(socket, "sentence")
    send(socket, type="cancel")
    hear(socket, "cancelled")
    server.wait_idle()
    until(lambda: server.metric("streams_ended_total", outcome="cancelled") == cancelled + 1)
    send(socket, type="text", text="Hello.")
    send(socket, type="flush")
    messages, audio = hear(socket, "done")
    assert [message.get("text") for message in messages if message["type"] == "sentence"] == ["Hello."]
    assert audio


def test_a_start_interrupts(socket: ClientConnection) -> None:
    send(socket, **START)
    send(socket, type="text", text=LONG)
    hear(socket, "sentence")
    send(socket, **START, routing=True)
    hear(socket, "started")
    send(socket, type="text", text="Hello. Well.")
    send(socket, type="flush")
    messages, _ = hear(socket, "done")
    assert [message["text"] for message in messages if message["type"] == "sentence"] == ["Hello.", "Well."]
    assert sum(len(message["picks"]) for message in messages if message["type"] == "routing") == sum(
        message["figures"]["steps"] for message in messages if message["type"] == "sentence_end"
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no JSON", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"type": "sing"}', "must be one of start, text"),
        ('{"type": "text", "text": "Hello."}', "start first"),
        ('{"type": "start", "voice": "zoe"}', "there is no voice 'zoe'"),
        ('{"type": "start", "model": "other"}', "there is no model 'other'"),
        ('{"type": "start", "voice": "ann", "sing": 1}', "there is no field 'sing'"),
    ],
)
def test_what_it_should_not_have_said(socket: ClientConnection, message: str, told: str) -> None:
    """The server reports the error and keeps the connection."""
    socket.send(message)
    error = hear(socket, "error")[0][-1]["error"]
    assert told in error["message"]
    send(socket, type="ping")
    hear(socket, "pong")


@pytest.mark.slow
def test_a_sentence_that_cannot_be_spoken_is_told_and_the_next_one_is(socket: ClientConnection) -> None:
    send(socket, **START)
    send(socket, type="text", text="1234567890123456789012345. Hello.")
    send(socket, type="flush")
    messages, audio = hear(socket, "done")
    spoken = [message["text"] for message in messages if message["type"] == "sentence"]
    assert spoken[-1] == "Hello." and audio


def test_more_text_than_may_wait_is_refused(socket: ClientConnection) -> None:
    send(socket, **START)
    for _ in range(3):
        send(socket, type="text", text="a" * 4000)
    assert hear(socket, "error")[0][-1]["error"]["code"] == "too_long"


def test_leaving_frees_the_rows(server: RunningServer) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/v1/audio/stream") as socket:
        send(socket, **START)
        send(socket, type="text", text=LONG)
        hear(socket, "sentence")
    server.wait_idle()


def test_a_page_of_another_origin_gets_no_socket(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{server.port}/v1/audio/stream", origin=Origin("http://elsewhere.example")).__enter__()
    assert refused.value.response.status_code == 403
