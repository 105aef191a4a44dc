"""Decoding speed of several versions of the code, bundles or thread counts, interleaved.

    python -m benchmarks.decoding_speed SIDE SIDE … [--rounds N] [--json FILE] [--markdown FILE]
    SIDE: NAME=BUNDLE[,threads=N][,codec=thread|between][,tree=DIR]

Each side is a separate process that stays warm. It runs the code of `tree`, a checkout of this repository
(`git worktree add`), instead of this one's; `codec` says where the codec runs, if not at that code's default. In a
round every side makes the same requests. The order changes, and only one side works at a time. Ratios to the first
side come from the same round.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import ROOT, environment
from benchmarks.markdown import figures_table
from benchmarks.output import add_output_options, write_outputs
from unimoe_tools.profiling.machine import BackgroundLoad, describe_machine

_TEXTS = ("Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "turn the lights off")
_NOISY_CORES = 0.1
# One side: reads requests as lines of JSON, writes figures. It works with every version of the code that has streaming.
_WORKER = """
import json, sys, time
import numpy as np
try:
    from unimoe_runtime import SynthesisRequest, Synthesizer
    def start(text, seed, progress):
        return synthesizer.stream(SynthesisRequest(text=text, seed=seed), progress=progress)
except ImportError:  # a version before requests were objects
    from unimoe_runtime.synthesis import Synthesizer
    def start(text, seed, progress):
        return synthesizer.stream(task="speech", text=text, seed=seed, progress=progress)
bundle, threads, codec = sys.argv[1], int(sys.argv[2]) or None, sys.argv[3]
synthesizer = Synthesizer.open(bundle, threads=threads, warm=True)
if codec:
    synthesizer.overlap = codec == "thread"
for line in sys.stdin:
    time.sleep(0.05)  # until the pools of the other sides spin no more
    request = json.loads(line)
    at, codes = [], None
    cpu = time.process_time()
    with start(request["text"], request["seed"], lambda *_: at.append(time.perf_counter())) as stream:
        for chunk in stream:
            pass
    outcome = stream.outcome
    print(json.dumps({
        "rtf": outcome.rtf, "first_audio_ms": 1e3 * outcome.first_audio_s, "prefill_ms": 1e3 * outcome.prefill_s,
        "step_ms": (1e3 * np.diff(at)).tolist(), "audio_s": outcome.audio_s, "codes": outcome.codes_TK.tolist(),
        "cpu_s": time.process_time() - cpu,
    }), flush=True)
"""


class LoadOfOthers:
    """Cores that processes other than this one and its ended children keep busy."""

    def __init__(self) -> None:
        self._all, self._began, self._children_s = BackgroundLoad(), time.perf_counter(), self._of_children()

    def cores(self) -> float:
        """The mean since this object was made."""
        mine = (self._of_children() - self._children_s) / (time.perf_counter() - self._began)
        return max(0.0, (self._all.cores() or 0.0) - mine)

    def told(self, cores: float) -> str:
        """The figure as a part of a sentence."""
        told = f"others kept {cores:.2f} cores busy"
        return f"{told}: repeat it on a quiet machine" if cores > _NOISY_CORES else told

    def _of_children(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


@dataclass(frozen=True, kw_only=True)
class Side:
    """`threads`: 0 for the default. `codec`: thread or between, empty for the default. `tree`: the checkout whose code
    runs."""

    name: str
    bundle: Path
    threads: int
    codec: str
    tree: Path

    @classmethod
    def parse(cls, text: str) -> Side:
        name, _, rest = text.partition("=")
        bundle, *fields = rest.split(",")
        options = dict(field.split("=", 1) for field in fields)
        return cls(
            name=name,
            bundle=Path(bundle),
            threads=int(options.get("threads", 0)),
            codec=options.get("codec", ""),
            tree=Path(options.get("tree", ROOT)),
        )

    def start(self, worker: str) -> subprocess.Popen[str]:
        """Start this side's process, which runs the source `worker`."""
        command = [sys.executable, "-c", worker, str(self.bundle.resolve()), str(self.threads), self.codec]
        return subprocess.Popen(
            command,
            env=environment(tree=self.tree),
            cwd=self.tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def measure(sides: list[Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Each side's answers; answers of the same round have the same index."""
    random = np.random.default_rng(0)
    workers = {side.name: side.start(_WORKER) for side in sides}
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for index in range(rounds + 1):
        request = {"text": _TEXTS[index % len(_TEXTS)], "seed": index}
        for name in random.permutation(list(workers)):
            worker = workers[name]
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            if index:
                answers[name].append(answer)
    for worker in workers.values():
        worker.communicate()
    return answers


def summarize(answers: dict[str, list[dict[str, Any]]], first: str) -> list[dict[str, Any]]:
    """Medians over the requests, ratios to the first side's, and the number of requests with identical codes."""
    rows = []
    before_R = [np.median(answer["step_ms"]) for answer in answers[first]]
    for name, of_side in answers.items():
        step_ms = np.concatenate([answer["step_ms"] for answer in of_side])
        medians_R = [np.median(answer["step_ms"]) for answer in of_side]
        same = [answer["codes"] == before["codes"] for answer, before in zip(of_side, answers[first], strict=True)]
        rows.append(
            {
                "name": name,
                "step_p50_ms": float(np.median(step_ms)),
                "step_p99_ms": float(np.percentile(step_ms, 99)),
                "step_ratio": float(np.median(np.divide(medians_R, before_R))),
                "rtf": float(np.median([answer["rtf"] for answer in of_side])),
                "rtf_ratio": float(
                    np.median([a["rtf"] / b["rtf"] for a, b in zip(of_side, answers[first], strict=True)])
                ),
                "first_audio_ms": float(np.median([answer["first_audio_ms"] for answer in of_side])),
                "prefill_ms": float(np.median([answer["prefill_ms"] for answer in of_side])),
                "cpu_s_per_audio_s": float(np.median([answer["cpu_s"] / answer["audio_s"] for answer in of_side])),
                "same_codes": float(np.mean(same)),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    columns = {
        "": "name", "step p50, ms": "step_p50_ms", "× first": "step_ratio", "p99, ms": "step_p99_ms", "RTF": "rtf",
        "RTF × first": "rtf_ratio", "first audio, ms": "first_audio_ms", "prefill, ms": "prefill_ms",
        "CPU s / s": "cpu_s_per_audio_s", "same codes": "same_codes",
    }  # fmt: skip
    return "\n".join(figures_table(columns, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="+", metavar="SIDE", type=Side.parse)
    parser.add_argument("--rounds", type=int, default=20)
    add_output_options(parser)
    arguments = parser.parse_args()
    load = LoadOfOthers()
    answers = measure(arguments.sides, arguments.rounds)
    cores = load.cores()
    rows = summarize(answers, arguments.sides[0].name)
    rows.sort(key=lambda row: [side.name for side in arguments.sides].index(row["name"]))
    text = table(rows) + f"\n\n{arguments.rounds} requests; {load.told(cores)}"
    print(text)
    write_outputs(arguments, {"rows": rows, "cores_of_others": cores, "machine": describe_machine()}, text)


if __name__ == "__main__":
    main()
