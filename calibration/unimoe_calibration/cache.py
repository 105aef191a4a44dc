"""Keeping statistics between runs: a killed run resumes, and another method on the same data starts from them.

Each run has one safetensors file. Its name is a hash of the sources; each round of samples rewrites it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import MANIFEST, Bundle
from unimoe_runtime.errors import CalibrationError, OutputError
from unimoe_runtime.files.atomic import atomic_file
from unimoe_runtime.files.hashes import sha256_of
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.files.user_cache import user_cache_dir

from .data import CalibrationData
from .observation import InputObserver
from .statistics import DomainStatistics, Histogram

_VERSION = 1
_STATE = "state"
_DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


def default_cache_dir() -> Path:
    """The user's cache folder for calibration."""
    return user_cache_dir() / "calibration"


def cache_key(bundle: Bundle, data: CalibrationData, **choices: Any) -> str:
    """A hash of everything that decides the statistics."""
    source = [_VERSION, sha256_of(bundle.path / MANIFEST), data.sha256, choices]
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:32]


def save(path: Path, observer: InputObserver, progress: Mapping[str, Any]) -> None:
    """Write what an observer has gathered, and `progress` (JSON) beside it. Raises OutputError."""
    tensors = dict(_tensors(observer))
    statistics = observer.statistics
    state = {
        "progress": progress,
        "tokens": {domain: picks.tolist() for domain, picks in statistics.tokens.items()},
        "num_tokens": statistics.num_tokens,
        "domains": [
            [str(linear), domain, one.num_rows, one.smallest, one.largest, one.histogram.limit]
            for linear, gathered in statistics.linears.items()
            for domain, one in gathered.domains.items()
        ],
    }
    tensors[_STATE] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            write_tensors(
                partial,
                {name: array.shape for name, array in tensors.items()},
                lambda name: [tensors[name]],
                {name: _DTYPES[array.dtype.name] for name, array in tensors.items()},
            )
    except OSError as error:
        raise OutputError(f"{path.parent}: the cache cannot be written ({error.strerror}); choose another") from None


def load(path: Path, observer: InputObserver) -> dict[str, Any] | None:
    """Fill an empty observer from a file of `save`. Returns its progress, or None where nothing can be resumed."""
    if not path.is_file():
        return None
    file = TensorFile(path, CalibrationError)
    state = json.loads(file.read(_STATE).tobytes())
    statistics = observer.statistics
    statistics.tokens = {domain: np.asarray(picks, np.int64) for domain, picks in state["tokens"].items()}
    statistics.num_tokens = dict(state["num_tokens"])
    by_name = {str(linear): gathered for linear, gathered in statistics.linears.items()}
    for name, domain, num_rows, smallest, largest, limit in state["domains"]:
        by_name[name].domains[domain] = DomainStatistics(
            channel_max_C=file.read(f"{name}|{domain}|channel_max"),
            num_rows=num_rows,
            smallest=smallest,
            largest=largest,
            histogram=Histogram(limit=limit, counts=file.read(f"{name}|{domain}|counts")),
        )
    for name, gathered in by_name.items():
        gathered.restore_rows(file.read(f"{name}|rows"), file.read(f"{name}|keys"))
    for (layer, expert), kept in observer.near_misses.items():
        kept.rows_MC = file.read(f"near|{layer}|{expert}|rows")
        kept.probability_M = file.read(f"near|{layer}|{expert}|probability")
    progress: dict[str, Any] = state["progress"]
    return progress


def _tensors(observer: InputObserver) -> Iterator[tuple[str, NDArray[Any]]]:
    for linear, gathered in observer.statistics.linears.items():
        yield f"{linear}|rows", gathered.rows_MC
        yield f"{linear}|keys", gathered.keys_M
        for domain, one in gathered.domains.items():
            yield f"{linear}|{domain}|counts", one.histogram.counts
            yield f"{linear}|{domain}|channel_max", one.channel_max_C
    for (layer, expert), kept in observer.near_misses.items():
        yield f"near|{layer}|{expert}|rows", kept.rows_MC
        yield f"near|{layer}|{expert}|probability", kept.probability_M
