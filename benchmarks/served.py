"""A server in a separate process, and a client that records the arrival time of each piece of audio."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

_READY_WITHIN_S = 300


@dataclass(frozen=True, kw_only=True)
class Process:
    """The system's figures of a process."""

    resident_mb: float
    threads: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: its address and its process."""

    port: int
    pid: int

    def process(self) -> Process:
        """The system's current figures of the server."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return Process(
            resident_mb=int(values["RssAnon"].split()[0]) / 1024,
            threads=int(values["Threads"]),
            files=len(os.listdir(f"/proc/{self.pid}/fd")),
        )

    def metrics(self) -> dict[str, float]:
        """Samples of `/metrics` without `unimoe_`, summed over their labels, and by `name{outcome}`."""
        totals: dict[str, float] = {}
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as response:
            lines = response.read().decode().splitlines()
        for line in lines:
            if line.startswith("#") or "_bucket" in line:
                continue
            name, value = line.rsplit(" ", 1)
            bare, _, labels = name.removeprefix("unimoe_").partition("{")
            for key in {
                bare,
                *(f"{bare}{{{part}}}" for part in labels.rstrip("}").replace('"', "").split(",") if part),
            }:
                totals[key] = totals.get(key, 0.0) + float(value)
        return totals


@contextmanager
def served(
    bundle: Path,
    *options: str,
    program: Sequence[str] = (sys.executable, "-m", "unimoe.cli"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`unimoe serve` on a free port, ready."""
    command = [*program, "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        port = 0
        for line in process.stderr:
            if line.startswith("http://"):
                port = int(line.split(":")[2])
            if line.startswith("ready"):
                break
        else:
            raise SystemExit(f"the server did not start: {process.wait()}")
        yield Server(port=port, pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_READY_WITHIN_S)
        process.stderr.close()


@dataclass(kw_only=True)
class Heard:
    """One answer. Times are seconds since the request; `pieces`: arrival time and bytes of each piece."""

    status: int = 0
    body: bytes = b""
    pieces: list[tuple[float, int]] = field(default_factory=list)
    whole: bool = False

    @property
    def first_s(self) -> float:
        return self.pieces[0][0] if self.pieces else float("inf")

    def underruns(self, bytes_per_s: float) -> int:
        """Pieces that arrived after a player, which starts with the first piece, had played all earlier pieces."""
        count, played_until = 0, None
        for at_s, size in self.pieces:
            if played_until is not None and at_s > played_until:
                count += 1
            played_until = max(at_s, played_until or 0.0) + size / bytes_per_s
        return count


class KeptConnection:
    """A connection that stays open from request to request, as those of HTTP clients do. Reads without delay."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_READY_WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, path: str, body: dict[str, Any]) -> Heard:
        """One request, answered in chunks."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
        heard, began, received, size = Heard(), time.perf_counter(), b"", -1
        self._socket.sendall(request)
        while not heard.whole:
            received += self._socket.recv(1 << 16)
            at_s = time.perf_counter() - began
            if not heard.status:
                head_, separator, received = received.partition(b"\r\n\r\n")
                if not separator:
                    received = head_
                    continue
                heard.status = int(head_.split()[1])
            while b"\r\n" in received:
                line, _, rest = received.partition(b"\r\n")
                size = int(line, 16)
                if len(rest) < size + 2:
                    break
                if size:
                    heard.body += rest[:size]
                    heard.pieces.append((at_s, size))
                received, heard.whole = rest[size + 2 :], size == 0
        return heard


async def ask(
    port: int, path: str, body: dict[str, Any] | bytes | None, *, leave_after: int | None = None, kind: str = ""
) -> Heard:
    """One request on its own connection; the answer is read piece by piece.

    `leave_after`: the caller disconnects abruptly after this number of pieces; 0 disconnects once the request is sent.
    """
    heard = Heard()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        head += f"content-type: {kind or 'application/json'}\r\ncontent-length: {len(content)}\r\n\r\n"
        began = time.perf_counter()
        writer.write(head.encode() + content)
        await writer.drain()
        if leave_after == 0:
            return heard
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        heard.status = int(lines[0].split()[1])
        if "transfer-encoding: chunked" not in lines:
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            heard.body, heard.whole = await reader.readexactly(length), True
            return heard
        while size := int(await reader.readline(), 16):
            piece = (await reader.readexactly(size + 2))[:-2]
            heard.body += piece
            heard.pieces.append((time.perf_counter() - began, size))
            if leave_after is not None and len(heard.pieces) >= leave_after:
                return heard
        heard.whole = True
        return heard
    finally:
        if heard.whole:
            writer.close()
        else:
            writer.transport.abort()
