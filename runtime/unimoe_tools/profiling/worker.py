"""A separate process for each setting, because ONNX Runtime's pool can be set only once per process, and peak memory
is a process's. The parent's side is `Worker`; the child reads commands as lines of JSON and answers each with a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from unimoe_runtime import errors
from unimoe_runtime.errors import BackendError, UnimoeError
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats
from unimoe_tools.profiling.bandwidth import BEYOND_CACHE_BYTES, ReadKernel
from unimoe_tools.profiling.kernels import read_kernels, summarize_kernels
from unimoe_tools.profiling.machine import BackgroundLoad, Memory, process_cpu_s, read_device_bytes, read_memory, settle
from unimoe_tools.profiling.measure import Generation, Meter
from unimoe_tools.profiling.record import (
    describe_bundle,
    describe_generation,
    describe_memory,
    describe_residency,
    describe_setting,
)
from unimoe_tools.profiling.trace import host_events, kernel_events, track_names
from unimoe_tools.profiling.workload import HOST_BACKENDS, Setting

Record = dict[str, Any]


class Worker:
    """One setting, opened in a separate process and measured on command.

        with Worker(setting) as worker:
            worker.warm_up()
            for _ in range(5):
                worker.repeat()
                worker.read()
            record = worker.finish()

    Two workers may be open at the same time and receive commands alternately; a worker without a command sleeps.
    Raises the child's UnimoeError, or BackendError where the child dies.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        environment = dict(os.environ)
        package_root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([package_root, environment.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        if setting.threads is not None:
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
                environment[name] = str(setting.threads)
        self._folder = tempfile.TemporaryDirectory(prefix="unimoe-profile-")  # the child is killed, and leaves it
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            self._ask("open", setting=setting.to_dict(), folder=self._folder.name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. May be called again."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._folder.cleanup()

    def warm_up(self) -> None:
        """Make every request once; only the first is recorded, as the cold one."""
        self._ask("warm_up")

    def repeat(self) -> list[Record]:
        """Make every request once more. Returns the figures of each."""
        generations: list[Record] = self._ask("repeat")["generations"]
        return generations

    def begin(self, request: int) -> None:
        """Prepare to make the request of that number, alternating with another worker."""
        self._ask("begin", request=request)

    def turn(self) -> Record | None:
        """Make some steps of it, first the prefill. Returns its figures after the last step, None before."""
        generation: Record | None = self._ask("turn")["generation"]
        return generation

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    def cpu_s(self) -> float | None:
        """CPU seconds of the child."""
        return process_cpu_s(self._process.pid)

    def read(self) -> float:
        """One reading of the read bandwidth beyond the cache, in bytes per second. Call it after a first `repeat`, so
        that the measured memory excludes its buffer."""
        return float(self._ask("read")["bytes_per_s"])

    def finish(self, *, trace: bool = False) -> Record:
        """The complete record of the setting; with `trace`, its last requests as trace events."""
        return self._ask("finish", trace=trace)

    def _ask(self, command: str, **values: Any) -> Record:
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": command, **values}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise BackendError(
                f"{self.setting.bundle}: the measuring process ended with code {code} while told to {command}; "
                "its own words stand above"
            )
        answer: Record = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["kind"])(answer["error"])
        return answer


class _Child:
    """The state behind the commands."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._origin_s = time.perf_counter()
        self._setting = setting
        self._memory: list[tuple[float, Memory]] = []
        self._note_memory()
        self._meter = Meter(setting, kernel_folder=folder if setting.kernels else None)
        self._note_memory()
        self._cold: Record | None = None
        self._generations: list[Generation] = []
        self._described: list[Record] = []
        self._peak: Memory | None = None
        self._device_bytes: int | None = None
        self._kernel: ReadKernel | None = None
        self._reads: list[float] = []
        self._background = BackgroundLoad()
        self._residency: ExpertCacheStats | None = None

    def warm_up(self) -> Record:
        generations = self._measure_all()
        if self._cold is None:
            described = describe_generation(generations[0], self._meter.bundle, repetition=-1)
            self._cold = {name: described[name] for name in ("task", "prepare_ms", "prefill_ms", "ttfa_ms")}
            self._background = BackgroundLoad()
        self._residency = self._meter.backend.residency()
        return {}

    def repeat(self) -> Record:
        generations = self._measure_all()
        repetition = len(self._generations) // len(generations)
        self._generations += generations
        described = [
            describe_generation(generation, self._meter.bundle, repetition=repetition) for generation in generations
        ]
        self._described += described
        if self._peak is None:
            self._peak = read_memory()
            if self._setting.backend not in HOST_BACKENDS or self._setting.providers is not None:
                self._device_bytes = read_device_bytes()
        return {"generations": described}

    def begin(self, *, request: int) -> Record:
        self._turns = self._meter.turns(self._setting.requests[request])
        return {}

    def turn(self) -> Record:
        try:
            next(self._turns)
        except StopIteration as end:
            return {"generation": describe_generation(end.value, self._meter.bundle, repetition=0)}
        return {"generation": None}

    def read(self) -> Record:
        settle()
        self._kernel = self._kernel or ReadKernel()
        self._reads.append(self._kernel.bytes_per_s())
        settle()
        return {"bytes_per_s": self._reads[-1]}

    def finish(self, *, trace: bool) -> Record:
        background_cpu_cores = self._background.cores()
        bundle = describe_bundle(self._meter.bundle)
        model_sized = ReadKernel(min(bundle["weight_bytes"], BEYOND_CACHE_BYTES))
        settle()
        reads_model = [model_sized.bytes_per_s() for _ in range(3)]
        record: Record = {
            "setting": self._setting.to_dict(),
            "bundle": bundle,
            "load_ms": self._meter.load_ms,
            "cold": self._cold,
            **describe_setting(
                self._meter.bundle,
                self._generations,
                reads_bytes_per_s=self._reads,
                reads_model_bytes_per_s=reads_model,
            ),
            "memory": describe_memory(self._peak, self._memory, self._device_bytes),
            "residency": describe_residency(self._residency, self._meter.backend.residency()),
            "cores_of_others": background_cpu_cores,
            "generations": self._described,
        }
        last = self._generations[-len(self._setting.requests) :]
        kernels = []
        if self._setting.kernels:
            windows = [one.decode_window_ns for one in last]
            kernels = read_kernels(self._meter.backend.end_profiling(), windows)  # type: ignore[attr-defined]
            record["kernels"] = summarize_kernels(kernels, sum(one.num_steps for one in last))
        if trace:
            process = os.getpid()
            events = [event for one in last for event in host_events(one, process)]
            events += kernel_events(kernels, process)
            title = f"{bundle['name']}, threads {self._setting.threads or 'all'}, rows {self._setting.rows}"
            record["trace"] = track_names(events, process, title) + events
        return record

    def close(self) -> None:
        self._meter.close()

    def _measure_all(self) -> list[Generation]:
        generations = [self._meter.measure(request) for request in self._setting.requests]
        # The curve ends after warm-up and the first repetition: later memory includes the read kernel's buffer.
        if self._peak is None:
            for generation in generations:
                self._memory += [(at_s - self._origin_s, memory) for at_s, memory in generation.memory]
        return generations

    def _note_memory(self) -> None:
        if found := read_memory():
            self._memory.append((time.perf_counter() - self._origin_s, found))


def _serve() -> None:
    """Answer commands until the parent closes its end."""
    # The engine's own output must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    child: _Child | None = None
    for line in sys.stdin:
        values = json.loads(line)
        command = values.pop("do")
        try:
            if command == "open":
                child = _Child(Setting.from_dict(values["setting"]), Path(values["folder"]))
                answer: Record = {}
            else:
                answer = getattr(child, command)(**values)
        except UnimoeError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    if child is not None:
        child.close()


if __name__ == "__main__":
    _serve()
