"""`unimoe train`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def train() -> None:
    """Train models (needs torch, and for the demo's corpus flite and fluidsynth)."""


@train.command()
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/demo.toml"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/train-demo"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("checkpoints/demo"), show_default=True)
def demo(recipe: Path, work: Path, out: Path) -> None:
    """Make the checkpoint in the box anew: corpus, codec, front end, token model. Goes on where it was stopped."""
    from unimoe.training.demo import train_demo

    train_demo(recipe, work, out, report=click.echo)
