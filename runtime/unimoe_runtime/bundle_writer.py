"""Writing a bundle: into a temporary folder beside the target, renamed when complete.

A killed or failed writer leaves no half bundle under the target's name.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .bundle import FORMAT, FORMAT_VERSION, MANIFEST, FileInfo, GraphInfo, TensorInfo, sha256_of
from .config import ModelConfig, SamplingConfig
from .errors import OutputError


class BundleWriter:
    """Context manager that builds one bundle.

    Files are written under `directory` and announced with `add_file` or `add_graph`; `finish` writes the manifest
    and puts the bundle in its place. Leaving the block without `finish` removes everything that was written.

    Raises OutputError where the target exists (unless `replace`, and then only if it is a bundle) or the disk
    refuses to take the files.
    """

    def __init__(self, target: Path, *, replace: bool = False) -> None:
        self.target = target
        if target.exists():
            is_bundle = (target / MANIFEST).is_file()
            is_empty = target.is_dir() and not any(target.iterdir())
            if not is_empty and not (replace and is_bundle):
                advice = "pass --force to replace it" if is_bundle else "it is no bundle; choose another name"
                raise OutputError(f"{target}: exists already; {advice}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.directory = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        except OSError as problem:
            raise OutputError(f"{target}: cannot be written here ({problem.strerror})") from None
        self._files: dict[str, FileInfo] = {}
        self._graphs: dict[str, GraphInfo] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        if isinstance(problem, OSError):
            reason = problem.strerror or str(problem)
            raise OutputError(f"{self.target}: could not be written ({reason}); nothing was left behind") from problem

    def add_file(self, file: str) -> None:
        """Announce a file that has been written under `directory`; its size and SHA-256 are taken now."""
        path = self.directory / file
        self._files[file] = FileInfo(bytes=path.stat().st_size, sha256=sha256_of(path))

    def add_graph(
        self,
        name: str,
        *,
        file: str,
        weights: str,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        precision: str = "float32",
    ) -> None:
        """Announce a graph and its weights, both written under `directory`."""
        self.add_file(file)
        self.add_file(weights)
        self._graphs[name] = GraphInfo(
            file=file, weights=weights, precision=precision, inputs=tuple(inputs), outputs=tuple(outputs)
        )

    def finish(
        self,
        *,
        model: ModelConfig,
        sampling: Mapping[str, SamplingConfig],
        codec: Mapping[str, Any] | None,
        provenance: Mapping[str, Any],
        opset: int,
    ) -> None:
        """Write the manifest and rename the folder to its place."""
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "opset": opset,
            "model": model.to_dict(),
            "sampling": {task: config.to_dict() for task, config in sampling.items()},
            "codec": codec,
            "provenance": provenance,
            "graphs": {name: asdict(graph) for name, graph in self._graphs.items()},
            "files": {name: asdict(info) for name, info in sorted(self._files.items())},
        }
        (self.directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        os.chmod(self.directory, 0o755)  # a temporary folder is private; the bundle is the user's like any other
        if self.target.exists():
            old = self.directory.with_suffix(".old")
            os.rename(self.target, old)
            os.rename(self.directory, self.target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(self.directory, self.target)
