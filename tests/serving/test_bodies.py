"""Bodies that are too large, too slow, of another type, or not JSON; and invalid fields."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.running import RunningServer, running_server
from unimoe_serving.config import ServerLimits

PATH = "/v1/audio/speech"
SPEECH = {"input": "Hello.", "voice": "ann"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({}, "input", "input is missing"),
        ({"input": 5}, "input", "must be a text"),
        ({"input": ""}, "input", "the text is empty"),
        ({"input": "a" * 5000}, "input", "5000 characters; the limit is 4096"),
        ({"input": "a\0b"}, "input", "not text"),
        ({"input": "\ud800"}, "input", "not text"),
        ({"input": "?!"}, "input", "nothing to say"),
        ({**SPEECH, "voice": "/etc/passwd"}, "voice", "there is no voice"),
        ({**SPEECH, "voice": "../ann.wav"}, "voice", "there is no voice"),
        ({**SPEECH, "voice": {"id": "nobody"}}, "voice", "there is no voice"),
        ({**SPEECH, "voice": {"id": 3}}, "voice", "must be a text"),
        ({**SPEECH, "voice": ["ann"]}, "voice", "must be a text"),
        ({**SPEECH, "model": "../../tiny"}, "model", "there is no model"),
        ({**SPEECH, "response_format": "midi"}, "response_format", "one of wav, pcm"),
        ({**SPEECH, "stream_format": "morse"}, "stream_format", "one of audio, sse"),
        ({**SPEECH, "speed": 9}, "speed", "from 0.25 to 4"),
        ({**SPEECH, "speed": "fast"}, "speed", "from 0.25 to 4"),
        ({**SPEECH, "speed": True}, "speed", "from 0.25 to 4"),
        ({**SPEECH, "seed": -1}, "seed", "from 0"),
        ({**SPEECH, "seed": 1.5}, "seed", "whole number"),
        ({**SPEECH, "seed": 1 << 70}, "seed", "from 0"),
        ({**SPEECH, "temperature": "NaN"}, "temperature", "from 0 to 10"),
        ({**SPEECH, "sample_rate_hz": 12345, "response_format": "opus"}, "sample_rate_hz", "opus has no 12345 Hz"),
        ({**SPEECH, "routing": 2}, "routing", "true or false"),
        ({**SPEECH, "voice_text": "x"}, "voice_text", "there is no field 'voice_text'"),
        ({**SPEECH, "video": "/etc/passwd"}, "video", "there is no field 'video'"),
    ],
)
def test_fields_that_are_refused(server: RunningServer, body: dict[str, Any], param: str | None, told: str) -> None:
    refused = server.refuses("POST", PATH, body)
    assert refused.status in (400, 404) and refused.param == param
    assert told in refused.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b"\xff", b'{"input": "a", "input": '])
def test_no_json_object(server: RunningServer, body: bytes) -> None:
    refused = server.refuses("POST", PATH, body, JSON)
    assert refused.status == 400 and refused.code == "invalid_json"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_other_types(server: RunningServer, kind: str) -> None:
    assert server.refuses("POST", PATH, b"{}", {"content-type": kind}).status == 415


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=x"])
def test_forms_that_are_none(server: RunningServer, boundary: str) -> None:
    kind = {"content-type": f"multipart/form-data{boundary}"}
    refused = server.refuses("POST", "/v1/audio/music", b"no form", kind)
    assert refused.status == 400 and refused.code == "invalid_form"


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["input", "voice", "speed", "seed", "model"]), inner, max_size=4),
))  # fmt: skip
def test_noise_gets_one_line(server: RunningServer, body: Any) -> None:
    """For any body the answer is one of our refusals or audio, never a server error."""
    status, _, answer = server.ask("POST", PATH, body, JSON)
    assert status < 500, answer[:300]


def test_too_large(tiny_bundle: Path) -> None:
    limits = ServerLimits(max_json_bytes=1000, max_upload_bytes=2000, body_s=0.5)
    with running_server({"tiny": tiny_bundle}, limits=limits) as server:
        refused = server.refuses("POST", PATH, {"input": "a" * 2000})
        assert refused.status == 413 and "1000 bytes" in refused.message
        # Without a length and an end: the server reads up to the limit.
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            connection.sendall(b"258\r\n" + b" " * 600 + b"\r\n258\r\n" + b" " * 600 + b"\r\n")
            assert b" 413 " in connection.recv(1000)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            began = time.monotonic()
            connection.sendall(f"{head}content-length: 900\r\n\r\n{{".encode())
            assert b" 408 " in connection.recv(1000)
            assert time.monotonic() - began < 20
        form = b"--x\r\ncontent-disposition: form-data; name=video; filename=a\r\n\r\n" + b"a" * 3000
        refused = server.refuses("POST", "/v1/audio/music", form, {"content-type": "multipart/form-data; boundary=x"})
        assert refused.status == 413


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\nC4 E4\r\n'
    b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\nnoise\r\n--x--\r\n'
)
IS_FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.slow
def test_a_form_that_breaks_off(server: RunningServer) -> None:
    """Wherever it is cut before its end, nothing of it is taken."""
    for end in range(len(FORM) - 2):
        refused = server.refuses("POST", "/v1/audio/music", FORM[:end], IS_FORM)
        assert refused.code == "invalid_form", (end, refused.message)
    assert "takes no video" in server.refuses("POST", "/v1/audio/music", FORM, IS_FORM).message


@pytest.mark.parametrize(("old", "new"), [(b"C4 E4", b"\xff\xfe"), (b'"input"', b'"in\xffput"')])
@pytest.mark.parametrize("charset", ["", "; charset=latin-1", "; charset=utf-16", "; charset=nothing"])
def test_a_form_that_is_not_utf8(server: RunningServer, old: bytes, new: bytes, charset: str) -> None:
    kind = {"content-type": IS_FORM["content-type"] + charset}
    refused = server.refuses("POST", "/v1/audio/music", FORM.replace(old, new), kind)
    assert refused.code == "invalid_form" and "not UTF-8" in refused.message


@pytest.mark.parametrize("name", ["\ud800", "a\ud800", "\x1b[31m", "a\nb", "\u202e"])
def test_names_of_fields_that_utf8_cannot_hold(server: RunningServer, name: str) -> None:
    """They come back in the answer, which is JSON nevertheless."""
    assert server.refuses("POST", PATH, {**SPEECH, name: 1}).param == name


@pytest.mark.parametrize("extra", [{}, {"connection": "close"}])
@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [(PATH, "application/json", 413), (PATH, "text/plain", 415), ("/nothing", "text/plain", 404),
     ("/v1/audio/music", "multipart/form-data; boundary=x", 400), ("/healthz", "text/plain", 405)],
)  # fmt: skip
def test_a_body_that_is_not_read(
    server: RunningServer, path: str, kind: str, status: int, extra: dict[str, str]
) -> None:
    """A client that sends all of a large body before it reads gets the answer, not a broken connection."""
    refused = server.refuses("POST", path, b" " * 20_000_000, {"content-type": kind, **extra})
    assert refused.status == status
