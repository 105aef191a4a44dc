"""Random requests at once, each compared bit for bit with its run alone.

    python -m benchmarks.same_audio BUNDLE [--requests 500] [--streams 12] [--seed N] [--markdown FILE]

Requests differ in text, task, voice, seed, sampling, length, speed and chunk schedule. Each is made alone first, in a
synthesizer of its own. Then the same requests run at once: they join at random times, and some are read slowly,
cancelled by another thread, or left by their reader. A request that was read to its end must give the same samples and
codes; one that ended early, the same beginning, chunk by chunk. A difference ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimoe_runtime import PromptError, SynthesisRequest, Synthesizer
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_runtime.synthesis.request import Limits
from unimoe_tools.profiling.machine import describe_machine

Choices = dict[str, tuple[str, ...]]
"""What a task's requests choose from."""

_SPEECH = (
    "Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "Turn the lights off.", "No.",
    "Hello. It is good to hear from you. Are you well? We are. Call again at six thirty, or tomorrow at nine.",
)  # fmt: skip
_MUSIC = ("120 bpm: C4 E4 G4", "90 bpm: A3 C4 E4 A4 G4", "140 bpm: C4 D4 E4 F4 G4 A4 B4 C5")
TEXTS: Choices = {"speech": _SPEECH, "music": _MUSIC}
ENDINGS = ("read", "read", "read", "read slowly", "cancelled", "left")
_WIDEST_GAP_S = 0.15


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One request, when it joins (seconds after its turn), and how its reader behaves until chunk `moment`."""

    request: SynthesisRequest
    delay_s: float
    ending: str
    moment: int

    @classmethod
    def by_chance(cls, chance: random.Random, voices: Choices, texts: Choices) -> Trial:
        task = chance.choice(sorted(voices))
        sampling = SamplingConfig(
            guidance_scale=chance.choice((0.0, 1.0, 2.0)),
            temperature=chance.choice((0.0, 0.4, 1.0)),
            top_k=chance.choice((None, 5, 20)),
            top_p=chance.choice((1.0, 0.9)),
            max_steps=900,
        )
        return cls(
            request=SynthesisRequest(
                task=task,
                text=chance.choice(texts[task]),
                voice=chance.choice(voices[task]),
                seed=chance.randrange(1000),
                sampling=chance.choice((None, sampling)),
                limits=Limits(max_steps=chance.choice((None, None, 30, 90))),
                schedule=ChunkSchedule(frames=chance.choice(((2, 4, 8, 16, 32), (1,), (3, 30), (50,)))),
                speed=chance.choice((1.0, 1.0, 0.8, 1.5)) if task == "speech" else 1.0,
            ),
            delay_s=chance.random() * _WIDEST_GAP_S,
            ending=chance.choice(ENDINGS),
            moment=chance.randint(1, 4),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A request's chunks and codes_TK, whether it reached its end, and the error that it ended with."""

    chunks: list[np.ndarray]
    codes_TK: np.ndarray
    complete: bool
    error: str


def visit(synthesizer: Synthesizer, trial: Trial, *, ending: str) -> Made:
    """The request, read as `ending` says."""
    chunks: list[np.ndarray] = []
    error = ""
    with synthesizer.stream(trial.request) as stream:
        timer = threading.Timer(0.03 * trial.moment, stream.cancel)
        if ending == "cancelled":
            timer.start()
        try:
            for chunk in stream:
                chunks.append(chunk.pcm_L)
                if len(chunks) == trial.moment and ending == "left":
                    break
                if len(chunks) <= trial.moment and ending == "read slowly":
                    time.sleep(0.02)
        except PromptError as problem:  # the model drew no frame at all
            error = str(problem)
        timer.cancel()
    complete = ending.startswith("read")
    return Made(chunks=chunks, codes_TK=stream.outcome.codes_TK, complete=complete, error=error)


def difference(found: Made, expected: Made) -> str:
    """What differs, as one line; empty if nothing does."""
    length = len(found.codes_TK)
    if found.complete and found.error != expected.error:
        return f"{found.error or 'no error'}, alone {expected.error or 'none'}"
    if not np.array_equal(found.codes_TK, expected.codes_TK[:length]):
        return "other codes"
    if found.complete and (length, len(found.chunks)) != (len(expected.codes_TK), len(expected.chunks)):
        return f"{length} frames in {len(found.chunks)} chunks, alone {len(expected.codes_TK)}"
    for index, (chunk_L, expected_L) in enumerate(zip(found.chunks, expected.chunks, strict=False)):
        if not np.array_equal(chunk_L, expected_L):
            return f"other samples in chunk {index}"
    return "" if len(found.chunks) <= len(expected.chunks) else "more chunks than alone"


def compare(bundle: Path, trials: list[Trial], streams: int) -> tuple[list[str], float]:
    """Differences as lines, and the mean number of streams in a step while all ran at once."""
    with Synthesizer.open(bundle, warm=True) as synthesizer:
        expected = [visit(synthesizer, trial, ending="read") for trial in trials]
    with Synthesizer.open(bundle, warm=True) as synthesizer, ThreadPoolExecutor(streams) as readers:

        def joined(trial: Trial) -> Made:
            time.sleep(trial.delay_s)
            return visit(synthesizer, trial, ending=trial.ending)

        found = list(readers.map(joined, trials))
        statistics = synthesizer.step_statistics
    if statistics.open:
        return [f"{statistics.open} streams are still open"], statistics.streams_per_step
    lines = [difference(*pair) for pair in zip(found, expected, strict=True)]
    return [f"{line}: {trial}" for line, trial in zip(lines, trials, strict=True) if line], statistics.streams_per_step


def trials_for(bundle: Path, count: int, seed: int, texts: Choices = TEXTS) -> list[Trial]:
    """`count` random trials for the tasks and voices of a bundle."""
    with Synthesizer.open(bundle) as synthesizer:
        frontend = synthesizer.frontend
        named = {"speech": frontend.voices, "music": frontend.instruments}
        voices = {task: named[task] for task in frontend.tasks}
    chance = random.Random(seed)
    return [Trial.by_chance(chance, voices, texts) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=12, help="the most at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    trials = trials_for(options.bundle, options.requests, options.seed)
    lines, streams_per_step = compare(options.bundle, trials, options.streams)
    endings = Counter(trial.ending for trial in trials)
    machine = describe_machine()
    text = (
        f"{len(trials)} requests, at most {options.streams} at once ({streams_per_step:.1f} in a step on average), "
        f"{', '.join(f'{count} {ending}' for ending, count in sorted(endings.items()))}: {len(lines)} differ from "
        f"their run alone. On {machine['cpu']}, {machine['cores']} cores."
    )
    print(text, *lines, sep="\n")
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
