"""All engines of a bundle for one target: up-to-date engines stay, the others are built, engines.json comes last.

    from unimoe_export.engines.building import build_engines
    (result,) = build_engines(open_bundle("bundle"), ["rtx-4060-laptop"])

An engine appears under its name only when it is complete, and a journal line records its sources: a killed build
resumes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from unimoe_runtime.bundle.engine_sets import (
    EngineRecord,
    EngineSet,
    engine_folder,
    read_engines,
    write_engines,
)
from unimoe_runtime.bundle.engine_trust import is_trusted, trust
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.errors import EngineError, OutputError, UnimoeError

from .flavours import Toolkit, open_flavour
from .jobs import Job, list_jobs
from .polygraphy_library import require_polygraphy
from .sizes import Limits, default_capacity
from .targets import BuildTarget, build_target, require_precisions
from .workers import Workers

_JOURNAL = ".journal"
_SLOWEST = 3

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """`seconds`: of the whole run; `slowest`: the engines that were built, with seconds each; `fallbacks`: how many
    engines of the set deviate from their graph, by kind of deviation."""

    path: Path
    target: str
    flavour: str
    engine_version: str
    num_built: int
    num_kept: int
    num_bytes: int
    seconds: float
    slowest: tuple[tuple[str, float], ...]
    fallbacks: Mapping[str, int]
    unbuilt: Mapping[str, str]


def build_engines(
    bundle: Bundle,
    names: Sequence[str],
    *,
    flavour: str | None = None,
    limits: Limits | None = None,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> list[BuildResult]:
    """Build the bundle's missing or outdated engines: a set for each name. A name is a target, or several targets
    joined by "+" for engines that run on all of them.

    `num_workers`: builder processes, by default one for each core. `progress` receives the number of finished engines,
    the number of all, and the name of the last. Raises EngineError before any build where one of the targets lacks a
    precision or its flavour of TensorRT, and later where a graph that every step needs has no engine. Graphs of the
    codec and of the vision tower may have none; the result says why.
    """
    require_polygraphy()
    targets = [build_target(name, flavour) for name in names]
    for target in targets:
        require_precisions(bundle, target)
        try:
            open_flavour(target.flavour).require_machine(target.capabilities)
        except UnimoeError as error:
            raise EngineError(f"target {target.name}: {error}") from None
    limits = limits or Limits(cache_capacities=(default_capacity(bundle),))
    show = progress or (lambda done, total, name: None)
    return [_build_set(bundle, target, limits, num_workers, show) for target in targets]


def _build_set(
    bundle: Bundle, target: BuildTarget, limits: Limits, num_workers: int | None, show: Progress
) -> BuildResult:
    start = time.perf_counter()
    toolkit = open_flavour(target.flavour)
    jobs = list(list_jobs(bundle, target.capabilities, limits, f"{toolkit.flavour} {toolkit.version}"))
    folder = engine_folder(bundle, target.name)
    with _sole_writer(folder):
        known = _known_records(folder)
        kept = {job.key: known[job.key] for job in jobs if job.is_done_by(known.get(job.key))}
        sound = checked_keys(kept, folder)
        kept = {key: record for key, record in kept.items() if key in sound}
        show(len(kept), len(jobs), target.name)
        built, unbuilt = _build(
            [job for job in jobs if job.key not in kept],
            bundle,
            folder,
            toolkit,
            num_workers,
            lambda done, name: show(len(kept) + done, len(jobs), name),
        )
        records = {**kept, **built}
        engine_set = EngineSet(
            path=folder,
            target=target.name,
            flavour=toolkit.flavour,
            engine_version=toolkit.version,
            capabilities=target.capabilities,
            max_rows=limits.rows,
            max_positions=limits.positions,
            cache_capacities=limits.cache_capacities,
            engines={job.key: records[job.key] for job in jobs if job.key in records},
            unbuilt=unbuilt,
        )
        write_engines(engine_set)
        trust(engine_set.sha256())
        (folder / _JOURNAL).unlink(missing_ok=True)
        _sweep(folder, {job.log for job in jobs} | {record.file for record in engine_set.engines.values()})
    slowest = sorted(built.items(), key=lambda item: -item[1].seconds)[:_SLOWEST]
    return BuildResult(
        path=folder,
        target=target.name,
        flavour=toolkit.flavour,
        engine_version=toolkit.version,
        num_built=len(built),
        num_kept=len(kept),
        num_bytes=sum(record.bytes for record in engine_set.engines.values()),
        seconds=time.perf_counter() - start,
        slowest=tuple((key, record.seconds) for key, record in slowest),
        fallbacks=Counter(note for record in engine_set.engines.values() for note in record.fallbacks),
        unbuilt=unbuilt,
    )


def _build(
    jobs: Sequence[Job],
    bundle: Bundle,
    folder: Path,
    toolkit: Toolkit,
    num_workers: int | None,
    show: Callable[[int, str], None],
) -> tuple[dict[str, EngineRecord], dict[str, str]]:
    built: dict[str, EngineRecord] = {}
    unbuilt: dict[str, str] = {}
    needed = set(language_model_graphs(bundle.model))
    processes = (num_workers or os.cpu_count() or 1) if toolkit.builds_at_once else 1
    with Workers(jobs, bundle.path, folder, toolkit.flavour, processes) as workers:
        for job, record, problem in workers.outcomes():
            if record is not None:
                built[job.key] = record
                trust(record.sha256)
                with (folder / _JOURNAL).open("a", encoding="utf-8") as journal:
                    journal.write(json.dumps({"key": job.key, "record": asdict(record)}) + "\n")
            elif job.graph in needed:
                raise EngineError(f"{job.key}: {toolkit.flavour} builds no engine ({problem}); see {folder / job.log}")
            else:
                unbuilt[job.graph] = problem
            show(len(built) + len(unbuilt), job.key)
    return built, unbuilt


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Create and lock the set's folder. The lock ends with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written here ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OutputError(f"{folder}: another process is building these engines; wait for that") from None
    except OSError as error:
        raise OutputError(f"{folder}: could not be written ({error.strerror or error})") from error
    finally:
        os.close(descriptor)


def _known_records(folder: Path) -> dict[str, EngineRecord]:
    """Records of earlier builds: the finished set, then the lines of a killed build up to the first truncated one."""
    known: dict[str, EngineRecord] = {}
    with suppress(EngineError):  # missing, damaged, or of another version
        known.update(read_engines(folder).engines)
    if (folder / _JOURNAL).is_file():
        for line in (folder / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                noted = json.loads(line)
                known[noted["key"]] = EngineRecord.from_dict(noted["record"])
            except (ValueError, KeyError, TypeError):
                break
    return known


def checked_keys(records: Mapping[str, EngineRecord], folder: Path) -> set[str]:
    """Keys of the records whose files exist with the recorded SHA-256."""

    def is_sound(record: EngineRecord) -> bool:
        if not is_trusted(record.sha256):  # another user's: build it anew, do not adopt it
            return False
        try:
            with (folder / record.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == record.sha256
        except OSError:
            return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {key for key, sound in zip(records, pool.map(is_sound, records.values()), strict=True) if sound}


def _sweep(folder: Path, used: set[str]) -> None:
    """Remove the files that earlier sets and killed builds left."""
    for pattern in ("*.engine", "*.log"):
        for file in folder.rglob(pattern):
            if file.relative_to(folder).as_posix() not in used:
                file.unlink()
