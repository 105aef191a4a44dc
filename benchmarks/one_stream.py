"""One stream over HTTP and through the library, request by request in turns: first audio, RTF, time by stage."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.marks import MARKS, STAGES, Mark, first_of_each, mark_library
from benchmarks.served import Heard, KeptConnection, served
from unimoe_runtime import SynthesisRequest, Synthesizer

_BYTES_A_SAMPLE = 2
_PAUSE_S = 0.05  # until the pool of the other process spins no more


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Medians of one stage in milliseconds: wall time and CPU time of the process, over HTTP and in the library.

    None where a stage does not exist there. The CPU time counts both threads of the engine.
    """

    name: str
    http_ms: float
    http_cpu_ms: float | None
    library_ms: float | None
    library_cpu_ms: float | None


@dataclass(frozen=True, kw_only=True)
class OneStream:
    """A single caller over HTTP and through the library: medians of first audio in ms and of RTF, and the medians of
    their ratios within a pair. `new_first_ms`: with a new connection for the request; otherwise it is kept."""

    http_first_ms: float
    new_first_ms: float
    library_first_ms: float
    first_ratio: float
    http_rtf: float
    library_rtf: float
    rtf_ratio: float
    stages: list[Stage]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One request: when it began, its first and last audio in seconds, its samples, and what was marked."""

    began_s: float
    began_cpu_s: float | None
    first_s: float
    last_s: float
    pcm: bytes
    marks: dict[str, Mark]


def one_stream(bundle: Path, texts: tuple[str, ...], pairs: int) -> OneStream:
    """The same requests in turns over HTTP and with the library in this process, which sleeps meanwhile."""
    heard_new: list[float] = []
    asked: list[tuple[float, Heard]] = []
    library: list[_Run] = []
    mark_library()
    with TemporaryDirectory() as folder:
        written = Path(folder) / "marks.json"
        program = (sys.executable, "-m", "benchmarks.marks", str(written))
        with served(bundle, program=program) as server, Synthesizer.open(bundle, warm=True) as synthesizer:
            rate_hz = synthesizer.sample_rate_hz
            with closing(KeptConnection(server.port)) as kept:
                for index in range(pairs + 2):
                    text, seed = texts[index % len(texts)], index
                    body = {"input": text, "seed": seed, "response_format": "pcm", "sample_rate_hz": rate_hz}
                    time.sleep(_PAUSE_S)
                    began = time.perf_counter()
                    asked.append((began, kept.ask("/v1/audio/speech", body)))
                    time.sleep(_PAUSE_S)
                    library.append(_through_library(synthesizer, SynthesisRequest(text=text, seed=seed)))
                    if asked[-1][1].body != library[-1].pcm:
                        raise ValueError(f"the server's samples of {text!r} with seed {seed} are not the library's")
                    time.sleep(_PAUSE_S)
                    with closing(KeptConnection(server.port)) as new:
                        heard_new.append(new.ask("/v1/audio/speech", body).first_s)
        marks = [Mark(*fields) for fields in json.loads(written.read_text())]
    http = []
    for began, heard in asked:
        seconds = heard.pieces[-1][0]
        within = [mark for mark in marks if began <= mark.at_s <= began + seconds]
        http.append(
            _Run(
                began_s=began, began_cpu_s=None, first_s=heard.first_s, last_s=seconds, pcm=heard.body,
                marks=first_of_each(within),
            )
        )  # fmt: skip
    # The first ones fill caches.
    return _compare(http[2:], library[2:], heard_new[2:], rate_hz)


def _through_library(synthesizer: Synthesizer, request: SynthesisRequest) -> _Run:
    MARKS.clear()
    began, began_cpu, at_s, pcm = time.perf_counter(), time.process_time(), [], b""
    with synthesizer.stream(request) as stream:
        for chunk in stream:
            pcm += chunk.pcm16()
            at_s.append(time.perf_counter() - began)
    return _Run(
        began_s=began, began_cpu_s=began_cpu, first_s=at_s[0], last_s=at_s[-1], pcm=pcm, marks=first_of_each(MARKS)
    )


def _compare(http: list[_Run], library: list[_Run], new_s: list[float], rate_hz: int) -> OneStream:
    audio_s = [len(run.pcm) / (_BYTES_A_SAMPLE * rate_hz) for run in http]
    http_rtf = [run.last_s / seconds for run, seconds in zip(http, audio_s, strict=True)]
    library_rtf = [run.last_s / seconds for run, seconds in zip(library, audio_s, strict=True)]
    return OneStream(
        http_first_ms=1e3 * median(run.first_s for run in http),
        new_first_ms=1e3 * median(new_s),
        library_first_ms=1e3 * median(run.first_s for run in library),
        first_ratio=median(a.first_s / b.first_s for a, b in zip(http, library, strict=True)),
        http_rtf=median(http_rtf),
        library_rtf=median(library_rtf),
        rtf_ratio=median(a / b for a, b in zip(http_rtf, library_rtf, strict=True)),
        stages=_stages(http, library),
    )


def _stages(http: list[_Run], library: list[_Run]) -> list[Stage]:
    stages, before = [], ""
    for name, about in STAGES.items():
        wall, cpu = _spent(http, before, name)
        if name not in library[0].marks:
            stages.append(Stage(name=about, http_ms=wall, http_cpu_ms=cpu, library_ms=None, library_cpu_ms=None))
        else:
            own_wall, own_cpu = _spent(library, before if before in library[0].marks else "", name)
            stages.append(Stage(name=about, http_ms=wall, http_cpu_ms=cpu, library_ms=own_wall, library_cpu_ms=own_cpu))
        before = name
    client_ms = 1e3 * median(run.began_s + run.first_s - run.marks[before].at_s for run in http)
    return [
        *stages,
        Stage(name="the caller reads them", http_ms=client_ms, http_cpu_ms=None, library_ms=None, library_cpu_ms=None),
    ]


def _spent(runs: list[_Run], before: str, name: str) -> tuple[float, float | None]:
    """Median milliseconds from one mark, or the request's begin, to another: wall and CPU."""
    wall_s = [run.marks[name].at_s - (run.marks[before].at_s if before else run.began_s) for run in runs]
    cpu_s = []
    for run in runs:
        began = run.marks[before].cpu_s if before else run.began_cpu_s
        if began is not None:
            cpu_s.append(run.marks[name].cpu_s - began)
    return 1e3 * median(wall_s), 1e3 * median(cpu_s) if cpu_s else None


def show_one_stream(single: OneStream) -> str:
    """A line and a table in Markdown."""
    lines = [
        f"One stream over HTTP: first audio {single.http_first_ms:.2f} ms, {single.first_ratio:.3f} × the library's "
        f"{single.library_first_ms:.2f} ms; RTF {single.http_rtf:.4f}, {single.rtf_ratio:.3f} × the library's "
        f"{single.library_rtf:.4f}. With a new connection for each request the first audio takes "
        f"{single.new_first_ms:.2f} ms. The samples are equal.",
        "",
        "| until | HTTP, ms | CPU, ms | library, ms | CPU, ms |",
        "| --- " * 5 + "|",
    ]  # fmt: skip
    for stage in single.stages:
        figures = (stage.http_ms, stage.http_cpu_ms, stage.library_ms, stage.library_cpu_ms)
        lines.append(f"| {stage.name} | {' | '.join('' if ms is None else f'{ms:.2f}' for ms in figures)} |")
    return "\n".join(lines) + "\n"
