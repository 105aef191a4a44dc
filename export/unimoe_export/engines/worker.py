"""The process that compiles: each line of standard input is a job (JSON), each line of standard output an answer.

Builders run in separate processes, because each uses one core and keeps memory, and because one that dies must not
stop the others. `workers.Workers` starts them.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.engine_sets import EngineRecord
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.files.atomic import atomic_file

from .compiling import TIMING_CACHE, Recipe, compile_graph
from .flavours import open_flavour
from .jobs import Job
from .logs import fallbacks, log_text, read_log, whole_log


def build_engine(job: Job, bundle: Bundle, folder: Path, flavour: str) -> tuple[EngineRecord | None, str]:
    """Build one engine and write it and its log into the set's folder. Returns the record, or None and the problem.

    Raises BundleError where the bundle's files are damaged, OSError where the engine cannot be written.
    """
    start = time.perf_counter()
    toolkit = open_flavour(flavour)
    info = bundle.graph(job.graph)
    path = bundle.path / info.file
    compiled = compile_graph(toolkit, path, info, job.recipe, folder / TIMING_CACHE)
    engine = folder / job.file
    engine.parent.mkdir(parents=True, exist_ok=True)
    if compiled.plan is None:
        _write(folder / job.log, whole_log(compiled.log).encode())
        return None, compiled.problem or ""
    plan = memoryview(compiled.plan)
    _write(engine, plan)
    seconds = time.perf_counter() - start
    read = read_log(compiled.log)
    is_language_model = job.graph in set(language_model_graphs(bundle.model))
    notes = fallbacks(path, read, compare_products=is_language_model)
    title = f"{job.key}: {info.precision}, {flavour} {toolkit.version}, {len(plan)} bytes, {seconds:.2f} s"
    _write(folder / job.log, log_text(title, read, notes, compiled.log).encode())
    return EngineRecord(
        graph=job.graph,
        file=job.file,
        log=job.log,
        bytes=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        source_sha256=job.source_sha256,
        recipe_sha256=job.recipe_sha256,
        precision=info.precision,
        seconds=round(seconds, 3),
        profile=job.recipe.profile(info),
        cache_capacity=job.cache_capacity,
        weight_bytes=read.weight_bytes,
        scratch_bytes=read.scratch_bytes,
        fallbacks=notes,
    ), ""


def _write(path: Path, content: bytes | memoryview) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(content)


@cache
def _bundle(path: str) -> Bundle:
    return open_bundle(path)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    job = Job(**{**order["job"], "recipe": Recipe.from_dict(order["job"]["recipe"])})
    try:
        record, problem = build_engine(job, _bundle(order["bundle"]), Path(order["folder"]), order["flavour"])
    except UnimoeError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{order['folder']}/{job.file}: cannot be written ({error.strerror})"}
    return {"record": None if record is None else asdict(record), "problem": problem}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends it
    # Libraries may print, so answers use a stream that nothing else writes to.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
