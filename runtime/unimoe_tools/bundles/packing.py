"""One file with the parts of a bundle that one device needs. Unpacking verifies every byte.

A pack is a tar file. Its first member, pack.json, names every other member with its size and SHA-256. The manifest
inside lists the omitted files, so that an intentionally missing file does not look like a damaged bundle.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

from unimoe_runtime.bundle.engine_sets import (
    ENGINES_JSON,
    EngineRecord,
    EngineSet,
    built_targets,
    engines_text,
    open_engines,
)
from unimoe_runtime.bundle.engine_verification import VERIFICATION_JSON
from unimoe_runtime.bundle.manifest import ENCODER
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, LEFT_OUT, MANIFEST, Bundle, open_bundle
from unimoe_runtime.errors import BundleError, OutputError
from unimoe_runtime.files.atomic import atomic_file, staging_path
from unimoe_runtime.files.hashes import FileInfo, sha256_of
from unimoe_runtime.files.json import MAX_BYTES, parse_json
from unimoe_runtime.files.text import open_regular, reason_of
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.bundles.contents import PARTS, part_of_file, part_of_graph

FORMAT: Final = "unimoe-pack"
FORMAT_VERSION: Final = 1
INDEX: Final = "pack.json"
ENGINES: Final = "engines"
_BLOCK = 1 << 20

Progress = Callable[[str, int, int], object]
"""Called with a file's name, the number of finished files, and the number of all files."""


@dataclass(frozen=True, kw_only=True)
class PackedPart:
    """Bytes of one part in the bundle and in the pack, and the reason for the difference."""

    name: str
    before: int
    after: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """The content of a pack. `replaced`: new content for files of the bundle, by name. `dropped_engines`: of graphs
    that the device does not run; `engine_set` lacks them."""

    bundle: Bundle
    target: str
    engine_set: EngineSet | None
    left_out: Mapping[str, str]
    replaced: Mapping[str, Path] = field(default_factory=dict)
    replaced_why: str = ""
    dropped_engines: tuple[EngineRecord, ...] = ()

    def parts(self) -> list[PackedPart]:
        """Sizes by part, in the order of a bundle's parts, engines last."""
        graphs = {file: name for name, one in self.bundle.graphs.items() for file in (one.file, one.weights)}
        rows: dict[str, PackedPart] = {}
        for name, info in self.bundle.files.items():
            part = part_of_graph(graphs[name]) if name in graphs else part_of_file(name)
            row = rows.setdefault(part, PackedPart(name=part, before=0, after=0))
            before = 0 if name in self.bundle.left_out else info.bytes
            size = 0 if name in self.left_out else before
            reason = row.reason or self.left_out.get(name, "")
            if name in self.replaced:
                size, reason = self.replaced[name].stat().st_size, self.replaced_why
            rows[part] = replace(row, before=row.before + before, after=row.after + size, reason=reason)
        found = [rows[part] for part in PARTS if part in rows and rows[part].before]
        if self.engine_set is not None:
            kept = sum(path.stat().st_size for path in engine_files(self.engine_set))
            dropped = sum(record.bytes for record in self.dropped_engines)
            reason = "no voice is cloned: none of the encoder" if dropped else ""
            found.append(PackedPart(name=ENGINES, before=kept + dropped, after=kept, reason=reason))
        return found


def plan_pack(bundle: Bundle, target: str, *, with_graphs: bool = False) -> PackPlan:
    """The files that a device needs: no codec encoder where the model does not clone, no texts for calibration, no
    ONNX graph that has an engine. `with_graphs` keeps the graphs, so that `unimoe verify` can compare engines
    with the CPU there.

    `target`: a row of the table of targets, or a set of engines that `unimoe build` made under another name. Raises
    ConfigError for a name that is neither, EngineError where a target that runs TensorRT has no sound engines in the
    bundle.
    """
    left_out: dict[str, str] = {}
    if CALIBRATION_PROMPTS in bundle.files:
        left_out[CALIBRATION_PROMPTS] = "texts for calibration"
    folder = bundle.checked_frontend()
    clones = folder is not None and open_frontend(folder).max_voice_s > 0
    if not clones and ENCODER in bundle.graphs:
        left_out |= _files(bundle, ENCODER, "no voice is cloned")
    has_engines = target in built_targets(bundle) or find_target(target).engine == "tensorrt"
    engine_set = open_engines(bundle, target) if has_engines else None
    dropped: tuple[EngineRecord, ...] = ()
    if engine_set is not None and not clones:
        dropped = tuple(record for record in engine_set.engines.values() if record.graph == ENCODER)
        kept = {key: record for key, record in engine_set.engines.items() if record not in dropped}
        engine_set = replace(engine_set, engines=kept)
    if engine_set is not None and not with_graphs:
        for record in engine_set.engines.values():
            if record.graph not in engine_set.unbuilt:
                left_out |= _files(bundle, record.graph, f"engines for {target} replace them")
    return PackPlan(
        bundle=bundle, target=target, engine_set=engine_set, left_out=left_out, dropped_engines=dropped
    )  # fmt: skip


def _files(bundle: Bundle, graph: str, why: str) -> dict[str, str]:
    info = bundle.graphs[graph]
    return {info.file: why, info.weights: why}


def engine_files(engine_set: EngineSet) -> list[Path]:
    """Files of a set that a device needs: engines and the record of their verification, without logs and caches.
    engines.json is written again."""
    names = {record.file for record in engine_set.engines.values()} | {VERIFICATION_JSON}
    if engines_text(engine_set) != (engine_set.path / ENGINES_JSON).read_text(encoding="utf-8"):
        names.discard(VERIFICATION_JSON)  # it is of a set with more engines
    return sorted(path for name in names if (path := engine_set.path / name).is_file())


def write_pack(plan: PackPlan, file: Path, *, progress: Progress = lambda what, done, total: None) -> int:
    """Write the pack and return its bytes. Raises OutputError where writing fails, BundleError for a damaged bundle."""
    members, texts = dict(_members(plan)), _texts(plan)
    infos = {name: FileInfo(bytes=path.stat().st_size, sha256=sha256_of(path)) for name, path in members.items()}
    infos |= {
        name: FileInfo(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in texts.items()
    }
    index = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "target": plan.target,
        "name": plan.bundle.path.name, "files": {name: asdict(info) for name, info in sorted(infos.items())},
    }  # fmt: skip
    try:
        with atomic_file(file) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in {INDEX: json.dumps(index, indent=1).encode() + b"\n", **texts}.items():
                tar.addfile(_header(name, len(content)), io.BytesIO(content))
            for done, (name, path) in enumerate(sorted(members.items())):
                progress(name, done, len(members))
                with path.open("rb") as stream:
                    tar.addfile(_header(name, path.stat().st_size), stream)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({reason_of(error)}); choose another place") from None
    return file.stat().st_size


def _members(plan: PackPlan) -> Iterator[tuple[str, Path]]:
    for name in plan.bundle.files:
        if name not in plan.left_out:
            yield name, plan.replaced.get(name) or plan.bundle.checked(name)
    if plan.engine_set is not None:
        for path in engine_files(plan.engine_set):
            yield path.relative_to(plan.bundle.path).as_posix(), path


def _texts(plan: PackPlan) -> dict[str, bytes]:
    """The files whose content differs in the pack: the manifest, and the list of engines."""
    texts = {MANIFEST: json.dumps(_manifest(plan), indent=1).encode() + b"\n"}
    if plan.engine_set is not None:
        place = plan.engine_set.path.relative_to(plan.bundle.path) / ENGINES_JSON
        texts[place.as_posix()] = engines_text(plan.engine_set).encode()
    return texts


def _manifest(plan: PackPlan) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((plan.bundle.path / MANIFEST).read_text(encoding="utf-8"))
    for name, path in plan.replaced.items():
        manifest["files"][name] = asdict(FileInfo(bytes=path.stat().st_size, sha256=sha256_of(path)))
    return {**manifest, LEFT_OUT: sorted(plan.left_out)}


def _header(name: str, size: int) -> tarfile.TarInfo:
    """A header without times and owners, so that the same bundle gives the same pack."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header


def unpack(file: Path, folder: Path, *, progress: Progress = lambda what, done, total: None) -> Bundle:
    """Unpack a bundle into `folder`, verify every file's size and SHA-256, and open the bundle and its engine sets.

    Raises BundleError, one line, for a file that is not a pack, is damaged or incomplete; EngineError for engines of
    another bundle; OutputError where the folder exists already or cannot be written. After an error no partial output
    remains.
    """
    if folder.exists():
        raise OutputError(f"{folder}: exists already; choose another name")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staging_path(folder, wait=False) as partial:
            partial.mkdir()
            with open_regular(file) as content, tarfile.open(fileobj=content, mode="r:") as tar:
                _extract(tar, file, partial, progress)
            bundle = open_bundle(partial)
            for target in built_targets(bundle):
                open_engines(bundle, target)
            partial.rename(folder)
    except BlockingIOError:
        raise OutputError(f"{folder}: another process is writing it; wait for that, or choose another name") from None
    except (tarfile.TarError, EOFError) as error:
        raise BundleError(f"{file}: no pack, or damaged ({error}); copy it again") from None
    except OSError as error:
        if error.filename == str(file):
            raise OutputError(f"{file}: cannot be read ({reason_of(error)})") from None
        raise OutputError(f"{folder}: cannot be unpacked ({reason_of(error)}); nothing was left behind") from None
    return open_bundle(folder)


def _extract(tar: tarfile.TarFile, file: Path, folder: Path, progress: Progress) -> None:
    files = _read_index(tar, file)
    missing = set(files)
    for member in islice(tar, 1, None):  # the first is the index
        info = files.get(member.name)
        if info is None or member.name not in missing or not member.isfile() or not _is_inside(member.name):
            raise BundleError(f"{file}: holds {member.name!r}, which its index does not list; do not use this pack")
        progress(member.name, len(files) - len(missing), len(files))
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        stream, digest, left = tar.extractfile(member), hashlib.sha256(), info.bytes
        assert stream is not None
        with path.open("wb") as target:
            while block := stream.read(min(_BLOCK, left)):
                digest.update(block)
                target.write(block)
                left -= len(block)
        if left or member.size != info.bytes or digest.hexdigest() != info.sha256:
            raise BundleError(f"{file}: {member.name} is damaged: its SHA-256 is not the index's; copy it again")
        missing.discard(member.name)
    if missing:
        raise BundleError(f"{file}: {sorted(missing)[0]} is missing; copy it again")


def _read_index(tar: tarfile.TarFile, file: Path) -> dict[str, FileInfo]:
    first = tar.next()
    stream = tar.extractfile(first) if first is not None and first.name == INDEX and first.isfile() else None
    try:
        content = b"{}" if stream is None else stream.read(MAX_BYTES + 1)
        index = parse_json(content, f"{file}: {INDEX}", BundleError)
        if index.get("format") != FORMAT or index.get("format_version") != FORMAT_VERSION:
            raise BundleError(f"{file}: not a pack of this release; make one with `unimoe pack BUNDLE -o {file}`")
        return {name: FileInfo.from_dict(one, name) for name, one in index["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{file}: its index is damaged ({error}); copy it again") from None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
