"""All measurements of a machine with an NVIDIA GPU, by one command, in eight minutes at most.

    python -m benchmarks.gpu_day [--checkpoint DIR] [--out DIR] [--rehearse]

Runs one part after another: `doctor`, an export, `verify` on ONNX Runtime's CUDA provider, decode steps at three sizes
with captured graphs and without, streams that share steps, and time to first audio. Each part has its own time limit
and its own result file in the folder `--out`. If a part fails or runs too long, the script records it and starts the
next one. `summary.json` and `summary.md` state each part's outcome. The exit code is 0 where all parts succeeded, else
1.

The machine needs Python, this folder, and the wheels of docs/how-to/gpu-day.md; it needs no network.
`--rehearse` runs the same parts on a CPU: the backend is ONNX Runtime's CPU provider, and the decode steps run the
device loop over host memory. Its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import ROOT, environment
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

TOTAL_LIMIT_S = 480.0
SIZES = (384, 1024, 2048)
STREAMS = (1, 2, 4, 8)
_DEMO = ROOT / "checkpoints" / "demo"
_TEXT = "Remind me at seven forty-five."
_LAST_LINES = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: a command of the interpreter, its time limit, and the file for its standard output.

    `needs`: the part is skipped where the part of that name failed.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    output: str
    needs: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A part's outcome. `status`: "ok", "failed", "too long" or "left out"; `said`: its last lines after a failure."""

    name: str
    status: str
    seconds: float
    output: str
    said: str = ""


def parts(checkpoint: Path, out: Path, *, rehearse: bool) -> list[Part]:
    """The parts in their order."""
    backend = "onnxruntime" if rehearse else "onnxruntime-cuda"
    bundle = str(out / "bundle")
    cli = ("-m", "unimoe.cli")
    found = [
        Part(name="doctor", command=(*cli, "doctor", "--json"), limit_s=40, output="doctor.json"),
        Part(
            name="export", command=(*cli, "export", str(checkpoint), bundle, "--force", "--json"), limit_s=60,
            output="export.json",
        ),
        Part(
            name="verify", command=(*cli, "verify", bundle, "--backend", backend, "--steps", "40", "--json"),
            limit_s=90, output="verify.json", needs="export",
        ),
    ]  # fmt: skip
    for hidden in SIZES:
        size = ["--hidden", str(hidden), "--picked", "0", "2", "8", "--steps", "5" if rehearse else "100"]
        size += ["--backend", "onnxruntime-cuda", "--no-torch", "--json", str(out / f"step-{hidden}.json")]
        if rehearse:
            size += ["--rehearse", "--layers", "1"]
        found.append(
            Part(
                name=f"steps at {hidden}", command=("-m", "benchmarks.device_step", *size), limit_s=100,
                output=f"step-{hidden}.txt",
            )
        )  # fmt: skip
    shared = ("-m", "benchmarks.gpu_day", "--shared-steps", bundle, "--backend", backend)
    profile = (
        *cli, "profile", bundle, "--backend", backend, "--task", "speech", "--text", _TEXT, "--repetitions", "3",
        "--json",
    )  # fmt: skip
    found += [
        Part(name="shared steps", command=shared, limit_s=60, output="shared.json", needs="export"),
        Part(name="first audio", command=profile, limit_s=60, output="first-audio.json", needs="export"),
    ]
    return found


def run_parts(chosen: Sequence[Part], out: Path, total_limit_s: float = TOTAL_LIMIT_S) -> list[Outcome]:
    """Run all parts one after another, even after a failure. Returns each part's outcome."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + total_limit_s
    for part in chosen:
        status = {one.name: one.status for one in outcomes}
        left_s = end - time.monotonic()
        if part.needs is not None and status.get(part.needs) != "ok":
            reason = f"the part {part.needs!r} did not succeed"
            outcomes.append(Outcome(name=part.name, status="left out", seconds=0.0, output=part.output, said=reason))
        elif left_s <= 0:
            reason = f"the {total_limit_s:.0f} s of all parts are over"
            outcomes.append(Outcome(name=part.name, status="left out", seconds=0.0, output=part.output, said=reason))
        else:
            outcomes.append(_run(part, out, min(part.limit_s, left_s)))
        print(_line(outcomes[-1]), file=sys.stderr, flush=True)
        write_summary(outcomes, out)
    return outcomes


def _run(part: Part, out: Path, limit_s: float) -> Outcome:
    started = time.monotonic()
    with (out / part.output).open("wb") as output, (out / f"{part.output}.log").open("w+b") as log:
        try:
            done = subprocess.run(
                [sys.executable, *part.command], stdout=output, stderr=log, cwd=ROOT, env=environment(),
                timeout=limit_s, check=False,
            )  # fmt: skip
            status = "failed" if done.returncode else "ok"
        except subprocess.TimeoutExpired:
            status = "too long"
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
    said = "" if status == "ok" else "\n".join(lines[-_LAST_LINES:])
    seconds = round(time.monotonic() - started, 1)
    return Outcome(name=part.name, status=status, seconds=seconds, output=part.output, said=said)


def _line(outcome: Outcome) -> str:
    reason = f": {outcome.said.splitlines()[-1]}" if outcome.said else ""
    return f"{outcome.name:<16}{outcome.status:<10}{outcome.seconds:6.1f} s{reason}"


def write_summary(outcomes: Sequence[Outcome], out: Path) -> None:
    (out / "summary.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n", encoding="utf-8")
    lines = ["| part | status | seconds | result | said |", "| --- | --- | --- | --- | --- |"]
    for one in outcomes:
        said = " ".join(one.said.split()).replace("|", "/")
        lines.append(f"| {one.name} | {one.status} | {one.seconds:.1f} | {one.output} | {said} |")
    (out / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shared_steps(bundle: Path, backend: str) -> dict[str, Any]:
    """Seconds of audio per second, summed over concurrent streams, by their number."""
    speeds = {}
    with Synthesizer.open(bundle, backend=backend) as synthesizer:
        synthesizer.synthesize(SynthesisRequest(text=_TEXT))
        for count in STREAMS:
            seconds: list[float] = []

            def speak(seed: int, seconds: list[float] = seconds) -> None:
                spoken = synthesizer.synthesize(SynthesisRequest(text=_TEXT, seed=seed))
                seconds.append(len(spoken.pcm_L) / spoken.sample_rate_hz)

            started = time.perf_counter()
            threads = [threading.Thread(target=speak, args=(seed,)) for seed in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if len(seconds) != count:
                raise SystemExit(f"only {len(seconds)} of {count} streams came to their end")
            speeds[count] = sum(seconds) / (time.perf_counter() - started)
    return {"backend": backend, "audio_seconds_per_second": speeds}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=_DEMO, help="what is exported and verified")
    parser.add_argument("--out", type=Path, default=Path("gpu-day"), help="where results are written")
    parser.add_argument("--rehearse", action="store_true", help="run every part on the CPU")
    parser.add_argument("--shared-steps", type=Path, metavar="BUNDLE", help="run that part alone, print JSON")
    parser.add_argument("--backend", default="onnxruntime-cuda", help="with --shared-steps")
    options = parser.parse_args(arguments)
    if options.shared_steps is not None:
        json.dump(shared_steps(options.shared_steps, options.backend), sys.stdout)
        return 0
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    outcomes = run_parts(parts(options.checkpoint.resolve(), out, rehearse=options.rehearse), out)
    return 0 if all(one.status == "ok" for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
