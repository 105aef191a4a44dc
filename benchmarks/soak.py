"""Many concurrent requests that end in every way: no leak, no hang, no different result.

    python -m benchmarks.soak BUNDLE [--requests N] [--seed N] [--side-by-side N] [--json FILE] [--markdown FILE]

Every 20 requests a synthesizer opens with a random memory budget (none, or up to half of all experts). Each request has
a text, a seed, a chunk schedule, an output (a growing WAV file, a pipe, or its reader) and an end: it is read to its
end, fast or slowly, or closed, or cancelled from another thread, or stopped by a time limit, or its pipe's reader
disappears. The output is compared with the same complete request without a budget: all of a finished request, the
beginning of any other. Files are read back, also half-written ones. Memory is the process's own (anonymous) after each
tenth of the requests. A request that takes minutes ends the process with a dump of all stacks.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.output import add_output_options, write_outputs
from unimoe_runtime.audio.sinks import PipeSink, Sink, WavSink
from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BackendError, OutputError
from unimoe_runtime.synthesis.chunks import FADE_S, ChunkSchedule
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.stream import AudioStream
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.profiling.floor import weight_bytes
from unimoe_tools.profiling.machine import describe_machine, read_memory

from .markdown import result_table

ENDINGS = ("read", "read slowly", "closed", "cancelled", "timed out", "reader gone")
PLACES = ("file", "pipe", "reader")
TEXTS = (
    ("music", "flute: C4 E4"),
    ("music", "piano: G4"),
    ("music", "flute, 160 bpm: C4 E4 G4"),
    ("speech", "call anna tomorrow"),
    ("speech", "nine one four two"),
)
TOLERANCE = 1e-5
_FILE_TOLERANCE = 1 / 32768  # one step of 16 bits, where rounding falls the other way
_HANGS_AFTER_S = 900
_SEEDS = 3
_REOPENED_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One request of the soak. `moment`: when it is stopped, 0 (early) to 3."""

    task: str
    text: str
    seed: int
    frames: tuple[int, ...]
    place: str
    ending: str
    moment: int

    @classmethod
    def by_chance(cls, chance: random.Random, texts: tuple[tuple[str, str], ...]) -> Trial:
        task, text = chance.choice(texts)
        ending = chance.choice(ENDINGS)
        return cls(
            task=task,
            text=text,
            seed=chance.randrange(_SEEDS),
            frames=tuple(chance.choice((1, 2, 3, 5, 8, 20, 50)) for _ in range(chance.randint(1, 4))),
            place="pipe" if ending == "reader gone" else chance.choice(PLACES),
            ending=ending,
            moment=chance.randrange(4),
        )


class Reader(Sink):
    """Keeps all samples, and waits in between where it is slow."""

    def __init__(self, *, slow_chunks: int) -> None:
        self.pieces: list[np.ndarray] = []
        self._slow_chunks = slow_chunks

    def write(self, pcm_L: np.ndarray) -> None:
        self.pieces.append(pcm_L)
        if len(self.pieces) <= self._slow_chunks:
            time.sleep(0.01)

    def finish(self) -> None:
        pass

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def piped(trial: Trial) -> Iterator[tuple[PipeSink, bytearray]]:
    """A pipe to a thread, which reads slowly or disappears where the trial says so, and the bytes that it has read."""
    reading, writing = os.pipe()
    read = bytearray()

    def work() -> None:
        with FileIO(reading) as end:
            while piece := end.read(4096):
                read.extend(piece)
                if trial.ending == "reader gone" and len(read) >= 2000 * trial.moment:
                    return
                if trial.ending == "read slowly" and len(read) <= 4096 * trial.moment:
                    time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with FileIO(writing, "w") as pipe:
            yield PipeSink(pipe), read
    finally:
        thread.join()


def run(synthesizer: Synthesizer, trial: Trial, whole_L: np.ndarray, folder: Path) -> float:
    """The largest difference from the complete request, in samples' units beyond the output's own rounding.

    Raises ValueError where a finished request is incomplete, or a file is not as expected.
    """
    stream = synthesizer.stream(
        SynthesisRequest(
            task=trial.task, text=trial.text, seed=trial.seed, schedule=ChunkSchedule(frames=trial.frames),
            timeout_s=0.02 * (1 + trial.moment) if trial.ending == "timed out" else None,
        )
    )  # fmt: skip
    finished, exact = trial.ending.startswith("read") and trial.ending != "reader gone", whole_L
    if trial.place == "reader":
        reader = Reader(slow_chunks=trial.moment if trial.ending == "read slowly" else 0)
        _into(reader, stream, trial)
        found = np.concatenate([np.zeros(0, np.float32), *reader.pieces])
    else:
        exact = to_int16(whole_L) / np.float32(32768)
        if trial.place == "pipe":
            with piped(trial) as (pipe, read):
                _into(pipe, stream, trial)
            found = np.frombuffer(bytes(read[: len(read) // 2 * 2]), "<i2") / np.float32(32768)
        else:
            found = _through_file(stream, trial, folder)
    if (finished and len(found) != len(exact)) or len(found) > len(exact):
        raise ValueError(f"{trial}: {len(found)} samples, alone {len(exact)}")
    compared = len(found)
    if not finished:  # a request that was stopped fades out at its end
        compared = max(0, compared - round(FADE_S * stream.sample_rate_hz))
    difference = float(np.abs(found[:compared] - exact[:compared]).max(initial=0))
    return difference if trial.place == "reader" else max(difference - _FILE_TOLERANCE, 0.0)


def _through_file(stream: AudioStream, trial: Trial, folder: Path) -> np.ndarray:
    path = folder / f"{threading.get_ident()}.wav"
    with WavSink(path, stream.sample_rate_hz) as sink:
        _into(sink, stream, trial)
        sink.finish()
    found, rate_hz = soundfile.read(path, dtype="float32")
    path.unlink()
    if rate_hz != stream.sample_rate_hz:
        raise ValueError(f"{trial}: a file of {rate_hz} Hz")
    samples: np.ndarray = found
    return samples


def _into(sink: Sink, stream: AudioStream, trial: Trial) -> None:
    """Write all chunks to a sink, or those before the trial's end."""
    timer = threading.Timer(0.01 * trial.moment, stream.cancel) if trial.ending == "cancelled" else None
    given = 0
    try:
        with stream:
            if timer is not None:
                timer.start()
            for chunk in stream:
                sink.write(chunk.pcm_L)
                given += 1
                if trial.ending == "closed" and given > trial.moment:
                    break
    except BackendError:
        if trial.ending != "timed out" or given:
            raise
    except OutputError:
        if trial.ending != "reader gone":
            raise
    finally:
        if timer is not None:
            timer.join()


def soak(
    bundle: Path, *, requests: int, seed: int, side_by_side: int, texts: tuple[tuple[str, str], ...] = TEXTS
) -> dict[str, Any]:
    """Run the trials and return the report. Raises ValueError at the first different result."""
    chance = random.Random(seed)
    trials = [Trial.by_chance(chance, texts) for _ in range(requests)]
    anonymous, threads, files, budgets, largest = [], [], [], [], 0.0
    started = time.monotonic()
    experts = _expert_bytes(bundle)
    with tempfile.TemporaryDirectory(prefix="unimoe-soak-") as folder, Synthesizer.open(bundle) as alone:

        @cache
        def whole(task: str, text: str, seed: int) -> np.ndarray:
            return alone.synthesize(SynthesisRequest(task=task, text=text, seed=seed)).pcm_L

        for trial in trials:
            whole(trial.task, trial.text, trial.seed)
        baseline = threading.active_count()
        for first in range(0, requests, _REOPENED_EVERY):
            together = trials[first : first + _REOPENED_EVERY]
            budgets.append(None if chance.random() < 0.25 else int(chance.uniform(0, 0.5) * experts))
            faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
            with (
                Synthesizer.open(bundle, memory_budget_bytes=budgets[-1]) as synthesizer,
                ThreadPoolExecutor(side_by_side) as pool,
            ):
                differences = pool.map(
                    lambda trial: run(synthesizer, trial, whole(trial.task, trial.text, trial.seed), Path(folder)),
                    together,
                )
                largest = max(largest, *differences)
            faulthandler.cancel_dump_traceback_later()
            if largest > TOLERANCE:
                raise ValueError(f"a stream differs from the whole by {largest:.2g}; one of {together}")
            gc.collect()
            memory = read_memory()
            anonymous.append(memory.anonymous if memory is not None else 0)
            threads.append(threading.active_count() - baseline)
            files.append(_open_files())
        left = len(os.listdir(folder))
    tenths = [anonymous[(len(anonymous) - 1) * tenth // 10] for tenth in range(1, 11)]
    return {
        "requests": requests,
        "side_by_side": side_by_side,
        "seconds": round(time.monotonic() - started, 1),
        "endings": dict(sorted(Counter(trial.ending for trial in trials).items())),
        "places": dict(sorted(Counter(trial.place for trial in trials).items())),
        "schedules": len({trial.frames for trial in trials}),
        "budgets_mb": [None if budget is None else round(budget / 1e6, 2) for budget in budgets],
        "largest_difference": largest,
        "anonymous_mb_by_tenth": [round(tenth / 1e6, 1) for tenth in tenths],
        "growth_mb_in_the_second_half": round((tenths[-1] - tenths[4]) / 1e6, 2),
        "threads_left": max(threads[-3:]),
        # Both include the files of a closed synthesizer that this function still refers to.
        "open_files_left": max(files[-3:]) - files[0],
        "files_left": left,
    }


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _expert_bytes(path: Path) -> int:
    bundle = open_bundle(path)
    return sum(weight_bytes(bundle, graph) for graph in bundle.graphs if ".expert." in graph)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-by-side", type=int, default=3)
    add_output_options(parser)
    arguments = parser.parse_args()
    result = soak(
        arguments.bundle, requests=arguments.requests, seed=arguments.seed, side_by_side=arguments.side_by_side
    )
    result = {"bundle": str(arguments.bundle), **result, "machine": describe_machine()}
    print(result_table(result), end="")
    write_outputs(arguments, result, result_table(result))


if __name__ == "__main__":
    main()
