"""`unimoe serve` refuses in one line what it cannot serve; `tests/serving` tests the server itself."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from unimoe.cli.group import cli
from unimoe_runtime import UnimoeError


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "not a bundle"),
        (["a=nowhere", "a=elsewhere"], "two bundles have the name 'a'"),
        (["nowhere", "--max-streams", "0"], "max_streams is 0"),
        (["nowhere", "--wyoming", "http://x"], "not a Wyoming address"),
        (["nowhere", "--api-key-file", "nofile"], "nofile: cannot be read"),
        *((["nowhere", "--host", host], "cannot listen on") for host in ("é" * 70, "\udcff", "a..b", "a\0b", "..")),
        (["nowhere", "--host", "203.0.113.1"], "cannot listen on"),
    ],
)
def test_refuses_in_one_line(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(cli, ["serve", *arguments, "--port", "0"])
    assert isinstance(result.exception, UnimoeError), result.output
    assert told in str(result.exception) and "\n" not in str(result.exception)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(cli, ["serve", "nowhere", "--port", str(taken.getsockname()[1])])
    assert isinstance(result.exception, UnimoeError) and "choose another address or port" in str(result.exception)


@pytest.mark.parametrize("key", [" ", "\t\n", "\N{EN SPACE}", "two words", "é", "\udcff"])
def test_a_key_that_nobody_could_send(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blank variable does not mean "no key": whoever set it wants one."""
    monkeypatch.setenv("UNIMOE_API_KEY", key)
    result = CliRunner().invoke(cli, ["serve", "nowhere", "--port", "0"])
    assert isinstance(result.exception, UnimoeError)
    assert "is blank" in str(result.exception) or "no header carries" in str(result.exception)
