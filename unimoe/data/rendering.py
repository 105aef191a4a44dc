"""Renders a recipe's corpus in parallel.

A source is rendered in parts of some clips. The name of a part's file is a hash of its request. An interrupted run
resumes: existing parts are not rendered again. When all parts exist, they are merged into a corpus and removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unimoe.bars import progress_bars
from unimoe.data.corpus import INDEX, Corpus, hash_clip, to_int16, write_audio, write_index
from unimoe.data.loudness import normalise_loudness
from unimoe.data.parallel import spread
from unimoe.data.recipe import Clip, CorpusRecipe, Job, make_plan
from unimoe.exclusive import exclusive
from unimoe.stopping import kept_when_stopped
from unimoe_runtime.files.atomic import atomic_file

_PART_VERSION = 1  # raise it when the same request renders differently


def _part_path(folder: Path, job: Job, chunk: list[Any]) -> Path:
    """File of a chunk's clips, named by a hash of the request."""
    settings = {name: str(value) for name, value in getattr(job.render, "keywords", {}).items()}
    asked = json.dumps([_PART_VERSION, job.name, settings, [str(wanted) for wanted in chunk]])
    return folder / f"{job.name}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"


def _render_part(work: tuple[Any, list[Any], Path]) -> Path:
    """Render a chunk, write it under a temporary name, and rename the file."""
    render, chunk, path = work
    clips: list[Clip] = render(chunk)
    audio = [to_int16(normalise_loudness(pcm_L)) for _, pcm_L in clips]
    fields = json.dumps([fields for fields, _ in clips]).encode()
    with atomic_file(path) as partial:
        np.savez(
            partial,
            audio=np.concatenate([*audio, np.zeros(0, np.int16)]),
            lengths=np.array([len(samples_L) for samples_L in audio], dtype=np.int64),
            fields=np.frombuffer(fields, dtype=np.uint8),
        )
    return path


def _read_part(path: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """A part's fields and int16 clips."""
    with np.load(path, allow_pickle=False) as part:
        audio, lengths, fields = part["audio"], part["lengths"], json.loads(part["fields"].tobytes())
    ends = np.cumsum(lengths)
    for values, length, end in zip(fields, lengths, ends, strict=True):
        yield values, audio[end - length : end]


def render_corpus(folder: str | Path, recipe: CorpusRecipe, *, num_workers: int = 2) -> Corpus:
    """Render a corpus into `folder` and open it. Raises OutputError when a program is missing or fails."""
    plan = make_plan(recipe)
    return run_jobs(Path(folder), plan, sample_rate_hz=recipe.sample_rate_hz, seed=recipe.seed, num_workers=num_workers)


def _render_parts(plan: Sequence[Job], folder: Path, num_workers: int) -> list[list[Path]]:
    """Render the parts that `folder` lacks. Returns the paths of each job's parts."""
    parts: list[list[Path]] = []
    with spread(num_workers) as run, progress_bars() as progress:
        for job in plan:
            chunks = [job.wanted[start : start + job.chunk] for start in range(0, len(job.wanted), job.chunk)]
            paths = [_part_path(folder, job, chunk) for chunk in chunks]
            missing = [
                (job.render, chunk, path) for chunk, path in zip(chunks, paths, strict=True) if not path.exists()
            ]
            task = progress.add_task(job.name, total=len(chunks), completed=len(chunks) - len(missing))
            for _ in run(_render_part, missing):
                progress.advance(task)
            parts.append(paths)
    return parts


def run_jobs(folder: Path, plan: Sequence[Job], *, sample_rate_hz: int, seed: int, num_workers: int) -> Corpus:
    """Render the clips of some jobs into a corpus in `folder` and open it. A job without clips adds no source.

    Raises OutputError where another process renders into the folder.
    """
    with exclusive(folder):
        return _run_jobs(folder, plan, sample_rate_hz=sample_rate_hz, seed=seed, num_workers=num_workers)


def _run_jobs(folder: Path, plan: Sequence[Job], *, sample_rate_hz: int, seed: int, num_workers: int) -> Corpus:
    parts_dir = folder / "parts"
    parts_dir.mkdir(exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    with kept_when_stopped(lambda: f"{len(list(parts_dir.glob('*.npz')))} parts are kept; the command goes on there"):
        parts = _render_parts(plan, parts_dir, num_workers)
    items: list[dict[str, Any]] = []
    made: list[Job] = []
    for job, paths in zip(plan, parts, strict=True):
        clips = [clip for path in paths for clip in _read_part(path)]
        if not clips:
            continue
        made.append(job)
        offsets = write_audio(folder / f"{job.name}.npy", [samples_L for _, samples_L in clips])
        for (fields, samples_L), offset in zip(clips, offsets, strict=True):
            place = {"source": job.name, "split": job.split(fields), "offset": offset, "length": len(samples_L)}
            items.append({**fields, **place, "clip": hash_clip(samples_L)})
    write_index(
        folder,
        items,
        sample_rate_hz=sample_rate_hz,
        licences={job.name: f"{job.source.name}: {job.source.licence}" for job in made},
        seed=seed,
        details={job.name: job.source.to_dict() for job in made},
    )
    shutil.rmtree(parts_dir)
    return Corpus.open(folder)
