"""Writing a bundle: into a hidden folder beside the target, renamed when complete.

    with BundleWriter(target, fingerprint=what_it_is_made_of) as writer:
        notes = writer.resume("layers.0.trunk")
        if notes is None:                   # not written yet, or not sound
            ...                             # files under writer.directory, add_graph, add_file
            writer.commit("layers.0.trunk")
        writer.finish(BundleParts(...))

A killed or failed writer leaves no incomplete bundle under the target's name. A failed writer leaves nothing at all. A
killed one leaves its folder, and the next writer with the same fingerprint resumes: a journal has a line for each
complete part, with the size and SHA-256 of its files, which are checked before the part is reused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unimoe_runtime.bundle.manifest import GraphInfo
from unimoe_runtime.bundle.reader import FORMAT, FORMAT_VERSION, MANIFEST
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.hashes import FileInfo, sha256_of
from unimoe_runtime.files.json import parse_json
from unimoe_runtime.files.text import reason_of

_JOURNAL = ".journal"


@dataclass(frozen=True, kw_only=True)
class BundleParts:
    """The manifest's content beside files and graphs.

    `sections` are the optional ones, each JSON: `vision`, `quantization`, `routing_statistics`, …. `format_version` is
    that of the graphs: a bundle made from another bundle keeps its version.
    """

    model: ModelConfig
    sampling: Mapping[str, SamplingConfig]
    codec: Mapping[str, Any] | None
    provenance: Mapping[str, Any]
    opset: int
    sections: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


class BundleWriter:
    """Context manager that builds one bundle.

    Files are written under `directory` and announced with `add_file` or `add_graph`; `finish` writes the manifest
    and moves the bundle to the target. Leaving the block without `finish` removes everything that was written.

    `fingerprint` identifies everything that determines the bundle's content; with None the writer never resumes.
    Raises OutputError if the target exists (with `replace`, only if it is not a bundle), another process writes it, or
    the disk cannot take the files.
    """

    def __init__(self, target: Path | Reservation, *, replace: bool = False, fingerprint: str | None = None) -> None:
        self._place = target if isinstance(target, Reservation) else Reservation(target, replace=replace)
        self.target, self.directory = self._place.target, self._place.directory
        self._files: dict[str, FileInfo] = {}
        self._graphs: dict[str, GraphInfo] = {}
        self._noted: dict[str, dict[str, Any]] = {}
        self._place.begin()
        try:
            self._open_journal(fingerprint)
        except OSError as error:
            self._place.give_up()
            raise OutputError(f"{self.target}: cannot be written here ({reason_of(error)})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place.give_up()
        if isinstance(problem, OSError):
            reason = problem.strerror or str(problem)
            raise OutputError(f"{self.target}: could not be written ({reason}); nothing was left behind") from problem

    def add_file(self, file: str, info: FileInfo | None = None) -> None:
        """Announce a file that has been written under `directory`. Without `info`, from hashing while writing, its size
        and SHA-256 are computed now."""
        path = self.directory / file
        self._files[file] = info or FileInfo(bytes=path.stat().st_size, sha256=sha256_of(path))

    def add_graph(self, name: str, graph: GraphInfo, weights_info: FileInfo | None = None) -> None:
        """Announce a graph and its weights, both written under `directory`."""
        self.add_file(graph.file)
        self.add_file(graph.weights, weights_info)
        self._graphs[name] = graph

    def commit(self, part: str, **notes: Any) -> None:
        """Record in the journal that a part is complete: everything announced since the last commit.

        `resume` returns `notes` (JSON) for it.
        """
        earlier = {file for line in self._noted.values() for file in line["files"]}
        line = {
            "part": part,
            "files": {file: asdict(info) for file, info in self._files.items() if file not in earlier},
            "graphs": {name: asdict(graph) for name, graph in self._graphs.items() if graph.weights not in earlier},
            "notes": notes,
        }
        self._noted[part] = line
        with (self.directory / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")

    def resume(self, part: str) -> Mapping[str, Any] | None:
        """The notes of a part that a killed writer completed and whose files are sound; the files count as announced.

        None if the part has to be written.
        """
        line = self._noted.get(part)
        if line is None:
            return None
        files = {file: FileInfo(**info) for file, info in line["files"].items()}
        for file, info in files.items():
            path = self.directory / file
            if not path.is_file() or path.stat().st_size != info.bytes or sha256_of(path) != info.sha256:
                del self._noted[part]
                return None
        self._files.update(files)
        self._graphs.update({name: GraphInfo.from_dict(info) for name, info in line["graphs"].items()})
        notes: dict[str, Any] = line["notes"]
        return notes

    def finish(self, parts: BundleParts) -> None:
        """Write the manifest and move the folder to the target.

        Raises ValueError if an optional section has the name of a field that every manifest has.
        """
        manifest = {
            "format": FORMAT,
            "format_version": parts.format_version,
            "opset": parts.opset,
            "model": parts.model.to_dict(),
            "sampling": {task: config.to_dict() for task, config in parts.sampling.items()},
            "codec": parts.codec,
            "provenance": parts.provenance,
            "graphs": {name: asdict(graph) for name, graph in self._graphs.items()},
            "files": {name: asdict(info) for name, info in sorted(self._files.items())},
        }
        taken = sorted(set(parts.sections) & set(manifest))
        if taken:
            raise ValueError(f"the manifest's field {taken[0]!r} is not an optional section")
        text = json.dumps({**manifest, **parts.sections}, indent=1) + "\n"
        (self.directory / MANIFEST).write_text(text, encoding="utf-8")
        (self.directory / _JOURNAL).unlink()
        self._place.take()

    def _open_journal(self, fingerprint: str | None) -> None:
        path = self.directory / _JOURNAL
        lines = _read_lines(path) if fingerprint is not None else []
        if not lines or lines[0] != {"fingerprint": fingerprint}:
            for stale in self.directory.iterdir():
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            lines = [{"fingerprint": fingerprint}]
        self._noted = {line["part"]: line for line in lines[1:]}
        # Rewritten, because the last line of a killed writer may be cut off.
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(fresh, path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The journal's lines up to the first incomplete one."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = parse_json(text, str(path), OutputError)
            except OutputError:
                break
            if isinstance(line, dict):
                lines.append(line)
    return lines
