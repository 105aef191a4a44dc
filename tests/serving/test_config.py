"""A server's valid and invalid settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_serving.config import BundleSource, ServerConfig, ServerLimits, is_loopback, wyoming_address

DEMO = BundleSource(name="demo", path=Path("demo"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"bundles": ()}, "there is no bundle"),
        ({"bundles": (DEMO, DEMO)}, "two bundles have the name 'demo'"),
        ({"port": 70_000}, "port is 70000"),
        ({"host": ""}, "host is empty"),
        *(
            ({"cors_origins": (origin,)}, "is not an origin")
            for origin in (
                "",
                "app.example",
                "https://",
                "https://app.example/",
                "https://app.example/a",
                "https://a b",
                "HTTPS://a",
            )
        ),
        ({"wyoming": "udp://127.0.0.1:1"}, "not a Wyoming address"),
    ],
)
def test_refuses(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ServerConfig(**{"bundles": (DEMO,), **settings})


@pytest.mark.parametrize("key", ["schlüssel", "two words", "two\nlines", "\udcff", "nul\0", "key\t"])
def test_a_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(ConfigError, match="no header carries"):
        ServerConfig(bundles=(DEMO,), api_key=key)


def test_names_and_limits() -> None:
    for name in ("", "a/b"):
        with pytest.raises(ConfigError, match="not a name for a bundle"):
            BundleSource(name=name, path=Path("demo"))
    for limit in ({"max_streams": 0}, {"queue_s": float("nan")}, {"max_queue": -1}, {"send_s": 0}):
        with pytest.raises(ConfigError, match=next(iter(limit))):
            ServerLimits(**limit)
    ServerLimits(max_queue=0, drain_s=0, max_voices=0)


def test_origins() -> None:
    origins = ("*", "https://app.example", "http://127.0.0.1:8080", "http://[::1]:80", "capacitor://localhost")
    assert ServerConfig(bundles=(DEMO,), cors_origins=origins).cors_origins == origins


def test_hosts() -> None:
    """On loopback its own names, unless others are given; on other addresses any name."""
    assert ServerConfig(bundles=(DEMO,)).hosts == ("localhost", "127.0.0.1", "::1")
    assert ServerConfig(bundles=(DEMO,), allowed_hosts=("me.example",)).hosts == ("me.example",)
    assert ServerConfig(bundles=(DEMO,), host="0.0.0.0").hosts == ()


def test_addresses() -> None:
    loopback = {"127.0.0.1": True, "::1": True, "localhost": True, "0.0.0.0": False, "example.org": False}
    assert {host: is_loopback(host) for host in loopback} == loopback
    assert wyoming_address("tcp://[::1]:10200") == ("::1", 10200)
    for uri in ("", "tcp://", "tcp://host", "tcp://host:x", "http://host:1", "tcp://[::1:2"):
        with pytest.raises(ConfigError, match="not a Wyoming address"):
            wyoming_address(uri)


def test_a_key_is_not_shown() -> None:
    assert "s3cret" not in repr(ServerConfig(bundles=(DEMO,), api_key="s3cret"))
