"""Two replicas under load on a local Ray: one is killed, and no later request is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_serving.config import BundleSource, ServerConfig
from unimoe_serving.ray import Scaling, build_app, deploy

APPLICATION = "unimoe-kill-test"
PATIENCE_S = 240
# A busy machine starts Ray's processes slowly.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "200", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "200",
}  # fmt: skip


@pytest.fixture
def ray_serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, int]]:
    """Ray Serve on this machine, and the port of its proxy."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'unimoe[ray]'")
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray")  # its sockets' paths must be short
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20, _temp_dir=folder)
    try:
        start_patiently(serve, port)
        yield serve, port
        serve.shutdown()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def start_patiently(serve: Any, port: int) -> None:
    """Start the proxy; on a busy machine it takes longer than Ray waits for it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            return
        except TimeoutError:
            if time.monotonic() > end:
                pytest.skip(f"Ray's proxy does not start on this machine within {PATIENCE_S} s")


def replicas() -> list[int]:
    """Process ids of this test's replicas."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"ServeReplica:{APPLICATION}:" in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_killed_replica_loses_no_later_request(ray_serve: tuple[Any, int], tiny_bundle: Path) -> None:
    serve, port = ray_serve
    config = ServerConfig(bundles=(BundleSource(name="tiny", path=tiny_bundle),))
    application = deploy(config, Scaling(min_replicas=2, max_replicas=2, num_cpus=0.5))
    serve.run(application, name=APPLICATION)

    def ask() -> bytes:
        body = {"input": "Hello.", "voice": "ann", "seed": 1, "response_format": "wav"}
        request = Request(
            f"http://127.0.0.1:{port}/v1/audio/speech", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urlopen(request, timeout=PATIENCE_S) as response:
            audio: bytes = response.read()
            return audio

    expected = ask()
    assert expected[:4] == b"RIFF" and len(replicas()) == 2
    outcomes: list[tuple[float, object]] = []
    done = threading.Event()

    def caller() -> None:
        while not done.is_set():
            sent = time.monotonic()
            try:
                outcomes.append((sent, ask()))
            except OSError as error:
                outcomes.append((sent, error))

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    time.sleep(1)
    victim = replicas()[0]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    end = killed + PATIENCE_S
    while sum(sent > killed for sent, _ in outcomes) < 20 and time.monotonic() < end:
        time.sleep(0.05)
    done.set()
    for thread in callers:
        thread.join()
    later = [outcome for sent, outcome in outcomes if sent > killed]
    assert len(later) >= 20
    assert all(outcome == expected for outcome in later), [outcome for outcome in later if outcome != expected][:3]
    # Ray replaces it.
    while (victim in replicas() or len(replicas()) < 2) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(replicas()) == 2 and ask() == expected


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "replicas are 3 to 2"),
        ({"max_replicas": 0, "min_replicas": 0}, "replicas are 0 to 0"),
        ({"target_streams": 0}, "target_streams is 0"),
    ],
)
def test_scaling(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Scaling(**settings)


def test_arguments_of_serve_run() -> None:
    for arguments in ({}, {"bundle": "x", "colour": "red"}):
        with pytest.raises(ConfigError, match="give bundle=PATH"):
            build_app(arguments)
