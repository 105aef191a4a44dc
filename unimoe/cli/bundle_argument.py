"""The BUNDLE and CHECKPOINT arguments: a folder, or `demo` or `voices`, the checkpoints that come with the package."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import click

INCLUDED: Final = ("demo", "voices")
"""Names of the checkpoints that come with the package."""
_BUNDLES: Final = "bundles"  # in the user's cache


class _BundlePath(click.Path):
    """A bundle's folder. Unless a folder of that name exists, `demo` and `voices` name bundles in the user's cache."""

    name = "bundle"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if os.fspath(value) in INCLUDED and not os.path.lexists(value):
            return included_bundle(os.fspath(value))
        return super().convert(value, param, ctx)


class _CheckpointPath(click.Path):
    """A checkpoint's folder. Unless a folder of that name exists, `demo` and `voices` are those of the package."""

    name = "checkpoint"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from unimoe_runtime.errors import CheckpointError

        if os.path.lexists(value) or not os.fspath(value):
            return super().convert(value, param, ctx)
        if os.fspath(value) in INCLUDED:
            return included_checkpoint(os.fspath(value))
        raise CheckpointError(
            f"{os.fspath(value)}: there is no such folder; give a checkpoint's folder, or {' or '.join(INCLUDED)}"
        )


BUNDLE: Final = _BundlePath()
CHECKPOINT: Final = _CheckpointPath()


def included_checkpoint(name: str) -> Path:
    """The checkpoint of that name in the wheel or in a clone. Raises CheckpointError if there is neither."""
    from unimoe_runtime.errors import CheckpointError

    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / name, package.parent / "checkpoints" / name):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"{name}: this installation has no checkpoint of that name; install the wheel, or use a clone"
    )


def included_bundle(name: str) -> Path:
    """The bundle of an included checkpoint, exported into the user's cache where it is not there yet."""
    from unimoe_runtime.files.user_cache import cached

    checkpoint = included_checkpoint(name)

    def export(bundle: Path) -> None:
        from unimoe_export.exporter import export_bundle

        click.echo(f"unimoe: exporting {name} into {bundle.parents[1]}", err=True)
        export_bundle(checkpoint, bundle)

    # The hash names the parent, because tables and pages show a bundle by its folder's name.
    return cached(f"{_BUNDLES}/{_fingerprint(checkpoint)}/{name}", export)


def included_name(path: Path) -> str:
    """The name of an included checkpoint, where `path` is its bundle and the name means that; else an empty text."""
    from unimoe_runtime.files.user_cache import user_cache_dir

    is_ours = path.name in INCLUDED and path.parent.parent == user_cache_dir() / _BUNDLES
    return path.name if is_ours and not os.path.lexists(path.name) else ""


def _fingerprint(checkpoint: Path) -> str:
    """Sixteen hexadecimal digits of a hash over the names and bytes of the checkpoint's files."""
    digest = sha256()
    for file in sorted(file for file in checkpoint.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(checkpoint)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
