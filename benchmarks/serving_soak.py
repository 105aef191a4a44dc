"""Thousands of requests to a server, in every protocol and with every end: no leaks, and consistent counts.

    python -m benchmarks.serving_soak BUNDLE [--requests N] [--callers N] [--seed N] [--json FILE] [--markdown FILE]

Concurrent callers make one random request after another: speech or music to its end, compared bit by bit with the same
request alone; other formats and events; disconnecting before or during the audio; text in pieces over a WebSocket, with
a barge-in or a disconnect; noise, wrong fields, invalid uploads, paths of the machine. After each tenth of the requests
the script reads the process's own memory, its threads and open files. At the end, when the server is idle, no slot is
held, started streams equal ended streams, and the metrics count each answer that a caller read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from benchmarks.output import add_output_options, write_outputs
from benchmarks.served import Heard, Server, ask, served

TEXTS = ("call anna tomorrow", "nine one four two", "Hello. It is good to hear from you.", "Remind me at seven.")
TUNES = ("flute, 140 bpm: C4 E4", "C4 G4", "piano, 150 bpm: E4 C4")
LONG = "I do hope that this works, and that you can hear me well. " * 20
BAD: tuple[dict[str, Any], ...] = (
    {"input": ""}, {"input": "hello", "voice": "../../etc/passwd"}, {"input": "hello", "speed": 99}, {}, {"input": 5},
    {"input": "hello", "model": "other"}, {"input": "a" * 5000}, {"input": "hello", "sing": True},
)  # fmt: skip
FORMATS = ("wav", "flac", "mp3", "opus", "aac")
PATHS = ("/v1/models", "/v1/audio/voices", "/healthz", "/", "/../../etc/passwd", "/v1/nothing")
KINDS = {
    "whole": 30, "music": 10, "format": 10, "events": 6, "left at once": 10, "left amid": 12, "barge-in": 6,
    "socket left": 4, "wrong": 6, "noise": 3, "upload": 2, "path": 3,
}  # fmt: skip
MAX_STREAMS = 8
WHOLE = {"response_format": "pcm", "sample_rate_hz": 16000}


class Soak:
    """The callers' shared state: requests, answers, and the answer of each complete request alone."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server, self.chance = server, random.Random(seed)
        self.asked: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.alone: dict[str, bytes] = {}
        self.faults: list[str] = []

    async def prepare(self) -> None:
        """Make each complete request alone."""
        for path, texts in (("speech", TEXTS), ("music", TUNES)):
            for text in texts:
                for seed in range(2):
                    body = {"input": text, "seed": seed, **WHOLE}
                    heard = await self._ask(f"/v1/audio/{path}", body)
                    assert heard.status == 200, heard.body
                    self.alone[json.dumps(body)] = heard.body

    async def one(self) -> None:
        """Make one random request."""
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        self.asked[kind] += 1
        try:
            await self._one(kind)
        except Exception as error:
            self.faults.append(f"{kind}: {error!r}")

    async def _one(self, kind: str) -> None:
        chance = self.chance
        speech = {"input": chance.choice(TEXTS), "seed": chance.randrange(2)}
        match kind:
            case "whole" | "music":
                path = "speech" if kind == "whole" else "music"
                body = {**speech, **WHOLE} if kind == "whole" else {**speech, "input": chance.choice(TUNES), **WHOLE}
                heard = await self._ask(f"/v1/audio/{path}", body, retry=True)
                self._expect(heard.status == 200 and heard.body == self.alone[json.dumps(body)], kind, heard)
            case "format":
                heard = await self._ask(
                    "/v1/audio/speech", {**speech, "response_format": chance.choice(FORMATS)}, retry=True
                )
                self._expect(heard.status == 200 and len(heard.body) > 500 and heard.whole, kind, heard)
            case "events":
                heard = await self._ask(
                    "/v1/audio/speech", {**speech, "stream_format": "sse", "routing": True}, retry=True
                )
                self._expect(heard.status == 200 and b'"speech.audio.done"' in heard.body, kind, heard)
            case "left at once" | "left amid":
                leave_after = 0 if kind == "left at once" else chance.randrange(1, 4)
                await self._ask("/v1/audio/speech", {"input": LONG, **WHOLE}, leave_after=leave_after)
            case "barge-in" | "socket left":
                await self._talk(barge_in=kind == "barge-in")
            case "wrong":
                heard = await self._ask("/v1/audio/speech", chance.choice(BAD))
                self._expect(heard.status in (400, 404), kind, heard)
            case "noise":
                heard = await self._ask("/v1/audio/speech", chance.randbytes(chance.randrange(300)))
                self._expect(heard.status == 400, kind, heard)
            case "upload":
                form = (
                    b'--x\r\ncontent-disposition: form-data; name="video"; filename="a.mp4"\r\n\r\nnoise\r\n--x--\r\n'
                )
                heard = await self._ask("/v1/audio/music", form, kind="multipart/form-data; boundary=x")
                self._expect(heard.status == 400, kind, heard)
            case "path":
                heard = await self._ask(chance.choice(PATHS), None)
                self._expect(heard.status in (200, 404) and b"root:" not in heard.body, kind, heard)

    async def _ask(self, path: str, body: Any, *, retry: bool = False, **options: Any) -> Heard:
        """Ask; with `retry`, ask once more later where the server is full."""
        for attempt in range(50):
            heard = await ask(self.server.port, path, body, **options)
            if heard.status:
                self.statuses[heard.status] += 1
            if not retry or heard.status not in (429, 503):
                break
            await asyncio.sleep(0.1 * (attempt + 1))
        return heard

    async def _talk(self, *, barge_in: bool) -> None:
        async with connect(f"ws://127.0.0.1:{self.server.port}/v1/audio/stream", max_size=None) as socket:
            await socket.send(json.dumps({"type": "start", "seed": 1}))
            for word in LONG.split()[: self.chance.randrange(5, 40)]:
                await socket.send(json.dumps({"type": "text", "text": f"{word} "}))
            await socket.send(json.dumps({"type": "flush"}))
            for _ in range(self.chance.randrange(1, 6)):
                await socket.recv()
            if not barge_in:
                return
            await socket.send(json.dumps({"type": "cancel"}))
            message: str | bytes = b""
            while isinstance(message, bytes) or json.loads(message)["type"] != "cancelled":
                message = await socket.recv()
            await socket.send(json.dumps({"type": "ping"}))
            answer = await socket.recv()
            if isinstance(answer, bytes) or json.loads(answer)["type"] != "pong":
                self.faults.append(f"barge-in: heard {answer[:80]!r} after it was cancelled")

    def _expect(self, holds: bool, kind: str, heard: Heard) -> None:
        if not holds:
            self.faults.append(f"{kind}: status {heard.status}, {len(heard.body)} bytes, {heard.body[:120]!r}")


async def soak(server: Server, requests: int, callers: int, seed: int) -> dict[str, Any]:
    """Make all requests, a tenth at a time. Returns the report."""
    state = Soak(server, seed)
    await state.prepare()
    readings = [asdict(server.process())]
    began = time.perf_counter()
    for tenth in range(10):
        left = iter(range(requests // 10))

        async def caller(left: Any = left) -> None:
            for _ in left:
                await state.one()

        await asyncio.gather(*(caller() for _ in range(callers)))
        await _idle(server)
        readings.append(asdict(server.process()))
        print(f"{(tenth + 1) * 10} %: {readings[-1]}, {len(state.faults)} faults", flush=True)
    metrics = server.metrics()
    checks = judge(state, readings, metrics)
    return {
        "requests": sum(state.asked.values()), "callers": callers, "seconds": time.perf_counter() - began,
        "asked": dict(state.asked), "statuses": dict(state.statuses), "readings": readings, "checks": checks,
        "faults": state.faults[:20],
        "metrics": {name: value for name, value in metrics.items() if "{" not in name and "created" not in name},
    }  # fmt: skip


def judge(state: Soak, readings: list[dict[str, Any]], metrics: dict[str, float]) -> dict[str, bool]:
    """The conditions that must hold after the last request."""
    answered = sum(state.statuses.values())
    refused = sum(count for status, count in state.statuses.items() if status in (400, 429, 503))
    return {
        "no fault": not state.faults,
        "streams that started have ended": metrics["streams_started_total"] == metrics["streams_ended_total"],
        "no slot is held": metrics["slots_taken"] == metrics["queue_waiting"] == metrics["streams_active"] == 0,
        # The count includes callers who left before the answer, and the readings of the metrics themselves.
        "every answer that was read is counted": metrics["http_responses_total"] >= answered,
        "refusals are counted": metrics["requests_refused_total"] >= refused,
        **steady(readings),
    }


def steady(readings: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether memory is flat, threads (started on demand) and files (of streams not yet collected) bounded."""
    first = readings[0]
    # One thread for each slot and one more, one that reads uploads, one that makes the steps. While FFmpeg encodes a
    # stream, its filter has a thread for each core.
    most_threads = first["threads"] + MAX_STREAMS * (1 + (os.cpu_count() or 1)) + 3
    return {
        "threads are bounded": all(each["threads"] <= most_threads for each in readings),
        "open files are bounded": all(each["files"] - first["files"] <= MAX_STREAMS + 2 for each in readings),
        "memory is flat from the third tenth on": readings[-1]["resident_mb"] <= 1.05 * readings[3]["resident_mb"],
    }


def show(report: dict[str, Any]) -> str:
    """The report as a table in Markdown."""
    readings, metrics = report["readings"], report["metrics"]
    rows = {
        "requests": report["requests"],
        "callers side by side": report["callers"],
        "seconds": f"{report['seconds']:.0f}",
        "by kind": _listed(report["asked"]),
        "answers read, by status": _listed(report["statuses"]),
        "own memory, MB, by tenth": ", ".join(f"{each['resident_mb']:.0f}" for each in readings),
        "threads": ", ".join(str(each["threads"]) for each in readings),
        "open files": ", ".join(str(each["files"]) for each in readings),
        "streams started, ended": f"{metrics['streams_started_total']:.0f}, {metrics['streams_ended_total']:.0f}",
        "faults": len(report["faults"]),
        **{check: "yes" if holds else "**no**" for check, holds in report["checks"].items()},
    }
    return "| what | found |\n| --- | --- |\n" + "".join(f"| {name} | {found} |\n" for name, found in rows.items())


def _listed(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


async def _idle(server: Server) -> None:
    """Wait until no slot is held."""
    for _ in range(600):
        metrics = server.metrics()
        if not metrics["slots_taken"] and not metrics["queue_waiting"]:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("slots are held although nobody asks")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--callers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    add_output_options(parser)
    options = parser.parse_args()
    with served(options.bundle, "--max-streams", str(MAX_STREAMS), "--max-queue", "8") as server:
        report = asyncio.run(soak(server, options.requests, options.callers, options.seed))
    write_outputs(options, report, show(report))
    print(json.dumps({name: report[name] for name in ("asked", "statuses", "checks", "faults")}, indent=1))
    raise SystemExit(not all(report["checks"].values()))


if __name__ == "__main__":
    main()
