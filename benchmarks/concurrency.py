"""Throughput of several concurrent streams, against one stream and against another version of the code, interleaved.

    python -m benchmarks.concurrency SIDE SIDE … [--streams 1 2 4 8 16] [--rounds N] [--json FILE] [--markdown FILE]
    SIDE: NAME=BUNDLE[,threads=N][,tree=DIR]

Each side is a process that stays warm; `tree` is a checkout of this repository whose code it runs. In a round every
side reads each number of concurrent streams, each stream in a thread that makes one request after another. The order
changes, and only one side works at a time. Counted are the frames that all streams decode in the round's seconds, which
begin a quarter of that time after the streams: so neither the joint start nor the end of the last ones counts. Ratios
to the side's own single stream come from the same round.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.decoding_speed import LoadOfOthers, Side
from benchmarks.markdown import figures_table
from benchmarks.output import add_output_options, write_outputs
from unimoe_tools.profiling.machine import describe_machine

# One side: an input line states the number of streams and the seconds; an output line returns the figures. It works
# with every version of the code that has streaming.
_WORKER = """
import hashlib, json, sys, threading, time
try:
    from unimoe_runtime import SynthesisRequest, Synthesizer
    def start(text, seed):
        return synthesizer.stream(SynthesisRequest(text=text, seed=seed))
except ImportError:  # a version before requests were objects
    from unimoe_runtime.synthesis import Synthesizer
    def start(text, seed):
        return synthesizer.stream(task="speech", text=text, seed=seed)
bundle, threads = sys.argv[1], int(sys.argv[2]) or None
TEXTS = "Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "turn the lights off"
synthesizer = Synthesizer.open(bundle, threads=threads, warm=True)

with open(bundle + "/manifest.json") as file:
    codec = json.load(file)["codec"]
frame_s = codec["hop_samples"] / codec["sample_rate_hz"]

class Reader(threading.Thread):
    def __init__(self, number):
        super().__init__()
        self.number, self.going, self.frames, self.stream, self.made = number, True, 0, None, []

    def run(self):
        while self.going:
            with start(TEXTS[self.number % len(TEXTS)], self.number) as self.stream:
                for _ in self.stream:
                    if not self.going:
                        break
            outcome = self.stream.outcome
            codes = outcome.codes_TK
            self.frames, self.stream = self.frames + len(codes), None
            digest = hashlib.blake2b(codes.tobytes(), digest_size=8).hexdigest() if self.going else None
            self.made.append((outcome.first_audio_s, self.number, digest))
            self.number += 1

    @property
    def audio_s(self):
        before, stream = self.frames, self.stream
        return frame_s * (before + (len(stream.outcome.codes_TK) if stream is not None else 0))

def at_once(count, ramp_s, seconds):
    readers = [Reader(7 * index) for index in range(count)]
    for reader in readers:
        reader.start()
    time.sleep(ramp_s)
    figures = []
    for pause_s in (seconds, 0):
        figures.append((time.perf_counter(), time.process_time(), sum(reader.audio_s for reader in readers)))
        time.sleep(pause_s)
    for reader in readers:
        reader.going = False
    for reader in readers:
        reader.join()
    took_s, cpu_s, audio_s = (after - before for before, after in zip(*figures))
    made = [request for reader in readers for request in reader.made]
    return {
        "audio_per_s": audio_s / took_s,
        "cpu_s_per_audio_s": cpu_s / audio_s if audio_s else float("nan"),
        "first_audio_ms": [1e3 * first_s for first_s, _, _ in made if first_s < 1e9],
        "codes": {str(number): digest for _, number, digest in made if digest},
    }

at_once(1, 0.2, 0.3)
for line in sys.stdin:
    time.sleep(0.05)  # until the pools of the other sides spin no more
    asked = json.loads(line)
    print(json.dumps(at_once(asked["streams"], asked["ramp_s"], asked["seconds"])), flush=True)
"""


_RAMP_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`streams`: the numbers of concurrent streams; each of the `rounds` reads each number for `seconds`."""

    streams: tuple[int, ...]
    rounds: int
    seconds: float


def measure(sides: list[Side], plan: Plan) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Answers by side and number of streams; answers of the same round have the same index."""
    random = np.random.default_rng(0)
    workers = {side.name: side.start(_WORKER) for side in sides}
    answers: dict[str, dict[int, list[dict[str, Any]]]] = {name: defaultdict(list) for name in workers}
    for _ in range(plan.rounds):
        for num_streams in plan.streams:
            for name in random.permutation(list(workers)):
                worker = workers[name]
                assert worker.stdin is not None and worker.stdout is not None
                asked = {"streams": num_streams, "ramp_s": _RAMP_SHARE * plan.seconds, "seconds": plan.seconds}
                worker.stdin.write(json.dumps(asked) + "\n")
                worker.stdin.flush()
                answers[name][num_streams].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    return answers


def summarize(answers: dict[str, dict[int, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Medians over the rounds. `same_codes`: requests with the same codes as the first side's single stream."""
    first = next(iter(answers.values()))
    alone: dict[str, str] = {}
    for found in [answer for by_streams in answers.values() for answer in by_streams[min(by_streams)]]:
        for number, digest in found["codes"].items():
            alone.setdefault(number, digest)
    rows = []
    for name, by_streams in answers.items():
        single = [answer["audio_per_s"] for answer in by_streams[min(by_streams)]]
        for num_streams, of_side in by_streams.items():
            speed = [answer["audio_per_s"] for answer in of_side]
            other = [answer["audio_per_s"] for answer in first[num_streams]]
            checked = [
                digest == alone[number] for answer in of_side for number, digest in answer["codes"].items()
                if number in alone
            ]  # fmt: skip
            waits = np.concatenate([answer["first_audio_ms"] for answer in of_side])
            rows.append(
                {
                    "name": name,
                    "streams": num_streams,
                    "audio_per_s": float(np.median(speed)),
                    "over_single": float(np.median(np.divide(speed, single))),
                    "over_first": float(np.median(np.divide(speed, other))),
                    "first_audio_p50_ms": float(np.median(waits)),
                    "first_audio_p95_ms": float(np.percentile(waits, 95)),
                    "cpu_s_per_audio_s": float(np.median([answer["cpu_s_per_audio_s"] for answer in of_side])),
                    "same_codes": float(np.mean(checked)) if checked else float("nan"),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    columns = {
        "": "name", "streams": "streams", "× real time": "audio_per_s", "× one stream": "over_single",
        "× first side": "over_first", "first audio p50, ms": "first_audio_p50_ms", "p95, ms": "first_audio_p95_ms",
        "CPU s / s": "cpu_s_per_audio_s", "same codes": "same_codes",
    }  # fmt: skip
    return "\n".join(figures_table(columns, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="+", metavar="SIDE", type=Side.parse)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    add_output_options(parser)
    arguments = parser.parse_args()
    plan = Plan(streams=tuple(arguments.streams), rounds=arguments.rounds, seconds=arguments.seconds)
    load = LoadOfOthers()
    rows = summarize(measure(arguments.sides, plan))
    cores, rounds = load.cores(), f"{plan.rounds} rounds of {plan.seconds:g} s for each side and number of streams"
    text = f"{table(rows)}\n\n{rounds}; {load.told(cores)}"
    print(text)
    write_outputs(arguments, {"rows": rows, "cores_of_others": cores, "machine": describe_machine()}, text)


if __name__ == "__main__":
    main()
