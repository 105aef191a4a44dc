"""Engine sets: a bundle's graphs compiled for one target, `BUNDLE/engines/TARGET/engines.json` and its files.

The manifest does not list them: a bundle is the same with and without them. `unimoe build` writes a set
(unimoe_export.engines), and a device backend opens it. Opening reads engines.json only and compares it with the
bundle. The error names an engine whose graph or weights have changed. An engine's own SHA-256 is checked before its
first use.

A trunk has an engine for each capacity of the cache (S), because an update in place needs a fixed S. Every other graph
has one engine. All other dimensions vary within the engine's one profile: rows B, positions T, tokens N = B·T.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from unimoe_runtime.bundle.engine_records import EngineRecord as EngineRecord
from unimoe_runtime.bundle.engine_records import SetDescription
from unimoe_runtime.bundle.engine_records import Shape as Shape
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.errors import ConfigError, EngineError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.hashes import sha256_of
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.text import first_few
from unimoe_runtime.records import shown

ENGINES = "engines"
ENGINES_JSON = "engines.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class EngineSet:
    """The engines of one bundle for one target, by `engine_key`.

    A pass has at most `max_rows` rows (B) and `max_positions` positions (T); a longer prompt is split. `unbuilt`:
    graphs of the codec or the vision tower that have no engine and run on the CPU, with the reason.
    """

    path: Path
    target: str
    flavour: str
    engine_version: str
    capabilities: tuple[tuple[int, int], ...]
    max_rows: int
    max_positions: int
    cache_capacities: tuple[int, ...]
    engines: Mapping[str, EngineRecord]
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set, repr=False)

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(sorted({record.precision for record in self.engines.values()}))

    def find(self, graph: str, cache_capacity: int | None = None) -> EngineRecord:
        """The engine of a graph; for a trunk, of exactly that capacity. Raises EngineError if there is none."""
        record = self.engines.get(engine_key(graph, cache_capacity))
        if record is None:
            why = f" ({self.unbuilt[graph]})" if graph in self.unbuilt else ""
            size = "" if cache_capacity is None else f" with a cache of {cache_capacity}"
            raise EngineError(f"{self.path}: has no engine for {graph}{size}{why}")
        return record

    def capacity_for(self, num_slots: int) -> int:
        """The smallest cache capacity that holds `num_slots` positions. Raises EngineError if none does."""
        for capacity in self.cache_capacities:
            if capacity >= num_slots:
                return capacity
        raise EngineError(
            f"{self.path}: {num_slots} positions do not fit: the largest cache has {self.cache_capacities[-1]}; "
            f"build again with --cache-capacity {num_slots}"
        )

    def checked(self, record: EngineRecord) -> Path:
        """Path of an engine. Its SHA-256 is verified the first time. Raises EngineError."""
        path = self.path / record.file
        if record.file not in self._checked:
            if not path.is_file():
                raise EngineError(f"{path}: missing; {_advice(self.target)}")
            if path.stat().st_size != record.bytes or sha256_of(path) != record.sha256:
                raise EngineError(f"{path}: damaged: its SHA-256 is not that of {ENGINES_JSON}; {_advice(self.target)}")
            self._checked.add(record.file)
        return path

    def sha256(self) -> str:
        """SHA-256 of engines.json, which holds that of every engine; a verification refers to it."""
        return sha256_of(self.path / ENGINES_JSON)


def engine_key(graph: str, cache_capacity: int | None = None) -> str:
    """The key of an engine in its set: "layers.0.expert.3", "layers.0.trunk@1024"."""
    return graph if cache_capacity is None else f"{graph}@{cache_capacity}"


def source_sha256(bundle: Bundle, graph: str) -> str:
    """Hash of an engine's sources: the ONNX file and the weights, by the manifest's hashes."""
    info = bundle.graphs[graph]
    return hashlib.sha256(f"{bundle.files[info.file].sha256} {bundle.files[info.weights].sha256}".encode()).hexdigest()


def engine_folder(bundle: Bundle, target: str) -> Path:
    """The folder of a bundle's engines for a target. It may not exist."""
    return bundle.path / ENGINES / target


def built_targets(bundle: Bundle) -> tuple[str, ...]:
    """Names of the targets that the bundle has engines for, sorted."""
    return tuple(sorted(path.parent.name for path in (bundle.path / ENGINES).glob(f"*/{ENGINES_JSON}")))


def open_engines(bundle: Bundle, target: str | None = None) -> EngineSet:
    """The bundle's engines for a target; None takes the only set.

    Raises EngineError, one line, if there are none or several, if they belong to other graphs than the bundle's, or
    if a file is missing, has another size or lies outside the folder.
    """
    if target is None:
        target = _only_target(bundle)
    folder = engine_folder(bundle, target)
    if not (folder / ENGINES_JSON).is_file():
        built = built_targets(bundle)
        there = f" (there are some for {', '.join(built)})" if built else ""
        raise EngineError(
            f"{bundle.path}: no engines for {target}{there}; `unimoe build {bundle.path} --target {target}`"
        )
    engine_set = read_engines(folder)
    _check_graphs(bundle, engine_set)
    _check_files(engine_set)
    return engine_set


def check_machine(engine_set: EngineSet, capability: tuple[int, int], engine_version: str) -> None:
    """Check that this machine can run the set, by its GPU's capability and the version that its TensorRT reports.

    Raises EngineError, which says what to build again.
    """
    if capability not in engine_set.capabilities:
        built = ", ".join(_dotted(one) for one in engine_set.capabilities)
        name = f"sm{capability[0]}{capability[1]}"
        raise EngineError(
            f"{engine_set.path}: built for compute capability {built}, this GPU has {_dotted(capability)}; "
            f"`unimoe build BUNDLE --target {name}`"
        )
    if engine_version != engine_set.engine_version:
        raise EngineError(
            f"{engine_set.path}: built with {engine_set.flavour} {engine_set.engine_version}, here is "
            f"{engine_version}; {_advice(engine_set.target)}"
        )


def read_engines(folder: Path) -> EngineSet:
    """engines.json of a folder, not compared with the bundle. Raises EngineError for a damaged file."""
    path = folder / ENGINES_JSON
    described = read_json(path, EngineError)
    if described.get("version") != VERSION:
        raise EngineError(
            f"{path}: version {shown(described.get('version'))}, this release reads {VERSION}; {_advice(folder.name)}"
        )
    try:
        found = SetDescription.from_dict(described, ignore_unknown=True)
    except ConfigError as error:
        raise EngineError(f"{path}: damaged: {error}; {_advice(folder.name)}") from None
    return EngineSet(
        path=folder,
        target=found.target,
        flavour=found.flavour,
        engine_version=found.engine_version,
        capabilities=tuple(_capability(text) for text in found.capabilities),
        max_rows=found.max_rows,
        max_positions=found.max_positions,
        cache_capacities=tuple(sorted(found.cache_capacities)),
        engines=found.engines,
        unbuilt=found.unbuilt,
    )


def engines_text(engine_set: EngineSet) -> str:
    """The content of a set's engines.json."""
    described = {
        "version": VERSION,
        "target": engine_set.target,
        "flavour": engine_set.flavour,
        "engine_version": engine_set.engine_version,
        "capabilities": [_dotted(one) for one in engine_set.capabilities],
        "precisions": engine_set.precisions,
        "max_rows": engine_set.max_rows,
        "max_positions": engine_set.max_positions,
        "cache_capacities": engine_set.cache_capacities,
        "unbuilt": engine_set.unbuilt,
        "engines": {key: asdict(record) for key, record in engine_set.engines.items()},
    }
    return json.dumps(described, indent=1) + "\n"


def write_engines(engine_set: EngineSet) -> None:
    """Write a set's engines.json; replace an older one if it differs. Raises OSError."""
    path, text = engine_set.path / ENGINES_JSON, engines_text(engine_set)
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_atomically(path, text)


def _only_target(bundle: Bundle) -> str:
    built = built_targets(bundle)
    if len(built) == 1:
        return built[0]
    if built:
        raise EngineError(f"{bundle.path}: has engines for {', '.join(built)}; name one with --target")
    raise EngineError(f"{bundle.path}: has no engines; `unimoe build {bundle.path} --target NAME`")


def _check_graphs(bundle: Bundle, engine_set: EngineSet) -> None:
    """Check that every graph of a step has its engines, and that no engine's graph has changed."""
    for graph in language_model_graphs(bundle.model):
        for capacity in engine_set.cache_capacities if graph.endswith(".trunk") else (None,):
            engine_set.find(graph, capacity)
    stale = list(dict.fromkeys(_stale(bundle, engine_set)))
    if stale:
        raise EngineError(
            f"{engine_set.path}: built from other graphs than the bundle has now: {first_few(stale)}; "
            f"`unimoe build {bundle.path} --target {engine_set.target}` builds those again"
        )


def _stale(bundle: Bundle, engine_set: EngineSet) -> Iterator[str]:
    for record in engine_set.engines.values():
        if record.graph not in bundle.graphs or record.source_sha256 != source_sha256(bundle, record.graph):
            yield record.graph


def _check_files(engine_set: EngineSet) -> None:
    root = engine_set.path.resolve()
    for record in engine_set.engines.values():
        relative = PurePosixPath(record.file)
        path = engine_set.path / record.file
        if relative.is_absolute() or ".." in relative.parts or "\\" in record.file:
            raise EngineError(
                f"{engine_set.path / ENGINES_JSON}: the path {record.file!r} leaves the folder; do not use this bundle"
            )
        if not path.is_file():
            raise EngineError(f"{path}: missing; {_advice(engine_set.target)}")
        if not path.resolve().is_relative_to(root):
            raise EngineError(f"{path}: a link that leaves the folder; do not use this bundle")
        size = path.stat().st_size
        if size != record.bytes:
            raise EngineError(f"{path}: {size} bytes, {ENGINES_JSON} says {record.bytes}; {_advice(engine_set.target)}")


def _advice(target: str) -> str:
    return f"build again with `unimoe build BUNDLE --target {target}`"


def _dotted(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


def _capability(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
