"""The whole application: every route exists, and an unknown path gives an error in OpenAI's format."""

from __future__ import annotations

from pathlib import Path

import pytest

import unimoe_serving
from tests.serving.running import RunningServer
from unimoe_serving.config import BundleSource, ServerConfig


def test_unknown_paths_and_methods(server: RunningServer) -> None:
    for path in ("/v1/audio/nothing", "/v1/models/", "//v1/models", "/healthz/"):
        assert server.refuses("GET", path).status == 404
    for method, path, allowed in (
        ("GET", "/v1/audio/speech", "POST"), ("PUT", "/v1/audio/voices", "GET, POST"), ("POST", "/metrics", "GET"),
        ("GET", "/v1/audio/voices/one", "DELETE"),
    ):  # fmt: skip
        refused = server.refuses(method, path)
        assert (refused.status, refused.headers["allow"]) == (405, allowed)
        assert refused.message == f"{path} takes {allowed}, not {method}"


def test_the_public_names(tiny_bundle: Path) -> None:
    config = unimoe_serving.ServerConfig(bundles=(BundleSource(name="tiny", path=tiny_bundle),))
    assert isinstance(config, ServerConfig) and unimoe_serving.ServerLimits().max_streams > 0
    app = unimoe_serving.create_app(config)
    assert not app.state.service.ready and callable(unimoe_serving.run_server)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unimoe_serving.nothing  # noqa: B018
