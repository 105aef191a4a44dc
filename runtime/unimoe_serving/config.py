"""The server's configuration: its bundles, its addresses, who may call it, and its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from unimoe_runtime.errors import ConfigError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Limits beyond which the server answers 400, 413, 429 or 503.

    `max_streams` streams decode at once, and `max_queue` requests wait for a slot, each at most `queue_s`.
    `max_text_characters` limits one request's text; `max_json_bytes` and `max_upload_bytes` limit its body, which must
    arrive within `body_s`. A stream ends after `stream_s`, and when its reader takes nothing for `send_s`. After
    SIGTERM, streams have `drain_s` to end. `max_connections` may be open, for HTTP and for Wyoming each; one that sends
    no complete request within `head_s` is closed.
    """

    max_streams: int = 16
    max_queue: int = 64
    queue_s: float = 30.0
    max_text_characters: int = 4096
    max_json_bytes: int = 1 << 18
    max_upload_bytes: int = 64 << 20
    body_s: float = 60.0
    stream_s: float = 300.0
    send_s: float = 30.0
    drain_s: float = 30.0
    max_voices: int = 100
    max_connections: int = 1000
    head_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("max_queue", "drain_s", "max_voices") else 1e-9
            if not value >= least:
                raise ConfigError(f"{name} is {value}; it must be {'at least' if least == 0 else 'above'} 0")


@dataclass(frozen=True, kw_only=True)
class BundleSource:
    """A bundle, its name in requests, and how its graphs run."""

    name: str
    path: Path
    backend: str = "onnxruntime"
    threads: int | None = None
    memory_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ConfigError(f"{self.name!r} is not a name for a bundle: give one without slashes, as NAME=PATH")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """One server. Port 0 takes a free one.

    `api_key`: the key that requests must send as `Authorization: Bearer …`; empty for none. `cors_origins`: other
    origins whose pages may call. `allowed_hosts`: host names under which the server may be called. On loopback the
    default is only its own names, so that no page of another site reaches it under a host name of that site.
    `voices_dir`: the folder of cloned voices. `wyoming`: a URI such as tcp://127.0.0.1:10200.
    """

    bundles: tuple[BundleSource, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = field(default="", repr=False)
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    voices_dir: Path | None = None
    wyoming: str = ""
    limits: ServerLimits = field(default_factory=ServerLimits)

    def __post_init__(self) -> None:
        names = [bundle.name for bundle in self.bundles]
        if not names:
            raise ConfigError("there is no bundle to serve: give the folder of at least one")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"two bundles have the name {min(twice)!r}: name them apart, as NAME=PATH")
        if not (self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key):
            raise ConfigError("the API key has characters that no header carries: use ASCII letters, digits and signs")
        if not self.host:  # a socket would listen at every address
            raise ConfigError("host is empty: give an address, such as 127.0.0.1, or 0.0.0.0 for all")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"{origin!r} is not an origin: give one such as https://app.example:8443, or *")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; it must be 0 to 65535")
        if self.wyoming:
            wyoming_address(self.wyoming)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names allowed in a request's Host header; empty for any."""
        if self.allowed_hosts or not is_loopback(self.host):
            return self.allowed_hosts
        return _LOOPBACK_NAMES


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def wyoming_address(uri: str) -> tuple[str, int]:
    """Host and port of a Wyoming URI. Raises ConfigError."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "tcp" or not host or port is None:
        raise ConfigError(f"{uri!r} is not a Wyoming address: give one such as tcp://127.0.0.1:10200")
    return host, port
