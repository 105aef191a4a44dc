"""A server under load, over HTTP from another process: throughput, first audio, underruns, fairness.

    python -m benchmarks.serving BUNDLE [--streams 1,2,4,8,16,32] [--seconds S] [--json FILE] [--markdown FILE]

Closed loop: a number of callers, each asking again as soon as it has the complete answer. Open loop: requests arrive
at random (Poisson) at a multiple of one caller's rate, answered or not; and in bursts of simultaneous requests.
`underruns` are chunks that arrived after a player, which starts with the first chunk, had played all earlier ones. The
bound is the limit of the steps alone: streams per step ÷ seconds per step, by the scheduler's own count, times the
number of lanes. A single caller is also compared with the library in this process, request by request in turns, stage
by stage.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.one_stream import OneStream, one_stream, show_one_stream
from benchmarks.output import add_output_options, write_outputs
from benchmarks.served import Heard, Server, ask, served
from unimoe_runtime import open_bundle
from unimoe_tools.profiling.machine import describe_machine

TEXTS = (
    "Remind me at seven forty-five.", "four seven one nine zero two", "Call Anna tomorrow.",
    "Hello. It is good to hear from you.",
)  # fmt: skip
_BYTES_A_SAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class Level:
    """One load. Times in milliseconds; `fairness`: the smallest amount of audio of a caller ÷ the largest.

    `made_late`: the underruns that a player within the server would have had; the others come of the way to the caller.
    `caller_cores`: CPU time of the callers' process per second.
    """

    load: str
    streams: int
    requests: int
    refused: int
    audio_s_per_s: float
    bound_s_per_s: float
    first_p50_ms: float
    first_p95_ms: float
    first_p99_ms: float
    underruns: int
    made_late: int
    streams_a_step: float
    rows_a_step: float
    step_ms: float
    fairness: float
    caller_cores: float
    memory_mb: float


class Load:
    """Requests audio from one server at its own rate, and measures one load at a time."""

    def __init__(self, server: Server, sample_rate_hz: int, frame_s: float, seed: int = 0) -> None:
        self._server, self._rate_hz, self._frame_s = server, sample_rate_hz, frame_s
        self._chance = random.Random(seed)
        self._heard: list[tuple[int, Heard]] = []

    async def measure(self, load: str, streams: int, work: Awaitable[None]) -> Level:
        """Run a load and return its figures."""
        self._heard = []
        before, began, began_cpu = self._server.metrics(), time.perf_counter(), time.process_time()
        await work
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        after = self._server.metrics()

        def spent(name: str, part: str = "scheduler_") -> float:
            return after[f"{part}{name}_total"] - before.get(f"{part}{name}_total", 0.0)

        good = [heard for _, heard in self._heard if heard.status == 200]
        first_ms = sorted(1e3 * heard.first_s for heard in good) or [0.0]
        by_caller: dict[int, float] = {}
        for caller, heard in self._heard:
            by_caller[caller] = by_caller.get(caller, 0.0) + self._audio_s(heard)
        steps, lanes = max(spent("steps"), 1), after["scheduler_lanes"]
        return Level(
            load=load,
            streams=streams,
            requests=len(self._heard),
            refused=len(self._heard) - len(good),
            audio_s_per_s=sum(map(self._audio_s, good)) / seconds,
            bound_s_per_s=spent("step_streams") * self._frame_s * lanes / max(spent("step_seconds"), 1e-9),
            first_p50_ms=_quantile(first_ms, 0.5),
            first_p95_ms=_quantile(first_ms, 0.95),
            first_p99_ms=_quantile(first_ms, 0.99),
            underruns=sum(heard.underruns(_BYTES_A_SAMPLE * self._rate_hz) for heard in good),
            made_late=int(spent("underruns", "")),
            streams_a_step=spent("step_streams") / steps,
            rows_a_step=spent("step_rows") / steps,
            step_ms=1e3 * spent("step_seconds") / steps,
            fairness=min(by_caller.values(), default=0.0) / max(by_caller.values(), default=1.0),
            caller_cores=cpu_s / seconds,
            memory_mb=self._server.process().resident_mb,
        )

    async def closed(self, callers: int, seconds: float) -> None:
        """Run `callers` for `seconds`; each asks again once it has the complete answer."""
        end = time.perf_counter() + seconds

        async def caller(index: int) -> None:
            while time.perf_counter() < end:
                await self._one(index)

        await asyncio.gather(*map(caller, range(callers)))

    async def poisson(self, rate_hz: float, seconds: float) -> None:
        """Requests at random times with a mean rate, answered or not."""
        requests: list[Awaitable[None]] = []
        at_s = 0.0
        while (at_s := at_s + self._chance.expovariate(rate_hz)) < seconds:
            requests.append(self._later(len(requests), at_s))
        await asyncio.gather(*requests)

    async def bursts(self, size: int, pause_s: float, count: int) -> None:
        """Bursts of `size` simultaneous requests, with pauses between them."""
        await asyncio.gather(*(self._later(index, burst * pause_s) for burst in range(count) for index in range(size)))

    async def _later(self, index: int, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await self._one(index)

    async def _one(self, index: int) -> None:
        body = {
            "input": self._chance.choice(TEXTS), "seed": self._chance.randrange(1000), "response_format": "pcm",
            "sample_rate_hz": self._rate_hz,
        }  # fmt: skip
        self._heard.append((index, await ask(self._server.port, "/v1/audio/speech", body)))

    def _audio_s(self, heard: Heard) -> float:
        return len(heard.body) / (_BYTES_A_SAMPLE * self._rate_hz) if heard.status == 200 else 0.0


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure_all(load: Load, streams: list[int], seconds: float) -> list[Level]:
    """All loads, one after another."""
    await load.closed(1, seconds / 4)  # caches fill, frequencies rise
    levels = [await load.measure("closed", count, load.closed(count, seconds)) for count in streams]
    alone = levels[0]
    requests_hz = alone.requests / seconds
    for factor in (0.5, 1.0, 1.5):
        name = f"Poisson, {factor:g} × one caller's rate"
        levels.append(await load.measure(name, 0, load.poisson(factor * requests_hz, seconds)))
    levels += [
        await load.measure(f"bursts of {size}", size, load.bursts(size, seconds / 4, 4)) for size in streams if size > 2
    ]
    return levels


def show(levels: list[Level], single: OneStream, machine: str) -> str:
    """A table in Markdown."""
    alone = levels[0].audio_s_per_s if levels else 1.0
    lines = [
        f"Measured on {machine}.", "",
        "| load | streams | requests | audio s/s | ÷ one | ÷ bound | first audio p50 / p95 / p99, ms "
        "| underruns (made late) | streams a step | step, ms | fairness | callers' cores | MB |",
        "| --- " * 13 + "|",
    ]  # fmt: skip
    for level in levels:
        refused = f" ({level.refused} refused)" if level.refused else ""
        lines.append(
            f"| {level.load} | {level.streams or ''} | {level.requests}{refused} | {level.audio_s_per_s:.1f} "
            f"| {level.audio_s_per_s / alone:.2f} | {level.audio_s_per_s / level.bound_s_per_s:.2f} "
            f"| {level.first_p50_ms:.0f} / {level.first_p95_ms:.0f} / {level.first_p99_ms:.0f} "
            f"| {level.underruns} ({level.made_late}) "
            f"| {level.streams_a_step:.1f} | {level.step_ms:.2f} "
            f"| {f'{level.fairness:.2f}' if level.load == 'closed' else ''} | {level.caller_cores:.2f} "
            f"| {level.memory_mb:.0f} |"
        )
    return "\n".join([*lines, "", show_one_stream(single)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--streams", default="1,2,4,8,16,32")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=40, help="Requests for the comparison with the library.")
    add_output_options(parser)
    options = parser.parse_args()
    codec = open_bundle(options.bundle).manifest["codec"]
    streams = [int(count) for count in options.streams.split(",") if count]
    single = one_stream(options.bundle, TEXTS, options.pairs)
    with served(options.bundle, "--max-streams", "32", "--max-queue", "1000") as server:
        frame_s = codec["hop_samples"] / codec["sample_rate_hz"]
        load = Load(server, codec["sample_rate_hz"], frame_s)
        levels = asyncio.run(measure_all(load, streams, options.seconds)) if streams else []
    machine = describe_machine()
    table = show(levels, single, f"{machine['cpu']}, {machine['cores']} cores")
    print(table)
    write_outputs(options, {"levels": [asdict(level) for level in levels], "one_stream": asdict(single)}, table)


if __name__ == "__main__":
    main()
