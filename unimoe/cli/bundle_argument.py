"""The BUNDLE argument of commands: a folder, or `demo` for the checkpoint that comes with the package."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import click

DEMO: Final = "demo"


class _BundlePath(click.Path):
    """A bundle's folder. Unless a folder `demo` exists, `demo` names the demo bundle in the user's cache."""

    name = "bundle"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if os.fspath(value) == DEMO and not os.path.lexists(value):
            return demo_bundle()
        return super().convert(value, param, ctx)


BUNDLE: Final = _BundlePath()


def demo_checkpoint() -> Path:
    """The demo checkpoint of the wheel or of a clone. Raises CheckpointError if there is neither."""
    from unimoe_runtime.errors import CheckpointError

    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / DEMO, package.parent / "checkpoints" / DEMO):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(f"{DEMO}: this installation has no demo checkpoint; install the wheel, or use a clone")


def demo_bundle() -> Path:
    """The demo's bundle, exported into the user's cache on first use and again when the checkpoint changes."""
    from unimoe_runtime.files.user_cache import user_cache_dir

    checkpoint = demo_checkpoint()
    bundle = user_cache_dir() / f"{DEMO}-{_fingerprint(checkpoint)}"
    if not bundle.exists():
        from unimoe_export.exporter import export_bundle

        click.echo(f"unimoe: exporting the demo into {bundle}", err=True)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_bundle(checkpoint, bundle)
    return bundle


def _fingerprint(checkpoint: Path) -> str:
    """Sixteen hexadecimal digits of a hash over the names and bytes of the checkpoint's files."""
    digest = sha256()
    for file in sorted(file for file in checkpoint.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(checkpoint)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
