"""The checks before every endpoint (host names, origins, the key), and the count of answers."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import openai
import pytest

from tests.serving.running import RunningServer, running_server

KEY = {"authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path):
    """A server with a key and an allowed origin."""
    with running_server({"tiny": tiny_bundle}, api_key="s3cret", cors_origins=("https://app.example",)) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/models", "/v1/audio/voices", "/metrics", "/v1/nothing"])
def test_the_key_is_asked_for(guarded: RunningServer, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}, {"authorization": "Bearer "}):
        refused = guarded.refuses("GET", path, headers=headers)
        assert refused.status == 401 and refused.code == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
    assert guarded.ask("GET", path, headers=KEY)[0] in (200, 404)


def test_the_page_and_the_health_checks_need_none(guarded: RunningServer) -> None:
    for path in ("/", "/healthz", "/readyz"):
        assert guarded.ask("GET", path)[0] == 200


def test_openai_client_with_the_key(guarded: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="s3cret", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="guess", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_name_that_is_not_the_servers(server: RunningServer) -> None:
    """A foreign page whose host name resolves to loopback (DNS rebinding) reaches no endpoint."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", ""):
        assert server.refuses("GET", "/v1/models", headers={"host": host}).status == 421
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
        assert server.ask("GET", "/v1/models", headers={"host": host})[0] == 200


def test_origins(server: RunningServer, guarded: RunningServer) -> None:
    speech = {"input": "Hello.", "voice": "ann"}
    elsewhere = {"origin": "https://app.example"}
    assert server.refuses("POST", "/v1/audio/speech", speech, elsewhere).code == "wrong_origin"
    assert server.refuses("POST", "/v1/audio/speech", speech, {"origin": "null"}).code == "wrong_origin"
    for damaged in ("http://[", "http://a]b", "http://[::1", "//[x]", "[", "http://[v1.a]:x"):
        assert server.refuses("POST", "/v1/audio/speech", speech, {"origin": damaged}).code == "wrong_origin"
    own = {"origin": server.url}
    assert server.ask("POST", "/v1/audio/speech", speech, own)[0] == 200
    assert "access-control-allow-origin" not in server.ask("GET", "/v1/models", headers=elsewhere)[1]

    status, headers, _ = guarded.ask("POST", "/v1/audio/speech", speech, {**KEY, **elsewhere})
    assert status == 200 and headers["access-control-allow-origin"] == "https://app.example"
    refused = guarded.refuses("GET", "/v1/models", headers=elsewhere)  # without the key; the page may read why
    assert refused.status == 401 and refused.headers["access-control-allow-origin"] == "https://app.example"
    preflight = {
        **elsewhere, "access-control-request-method": "POST", "access-control-request-headers": "authorization",
    }  # fmt: skip
    assert guarded.ask("OPTIONS", "/v1/audio/speech", headers=preflight)[0] == 200


def test_answers_are_counted_by_path_and_status(tiny_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle}) as server:
        paths = ("/healthz", "/v1/models/tiny", "/v1/models/other", "/a", "/b")
        assert [server.ask("GET", path)[0] for path in paths] == [200, 200, 404, 404, 404]
        assert server.metric("http_responses_total") == len(paths)
        assert server.metric("http_responses_total", path="/v1/models/{model}", status="404") == 1
        assert server.metric("http_responses_total", path="other", status="404") == 2


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v1/audio/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page.js"],
)
def test_no_path_of_the_machine_is_served(server: RunningServer, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 404 and "error" in json.loads(response.read())
    connection.close()
