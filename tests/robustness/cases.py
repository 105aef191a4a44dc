"""Cases: a damaged input and the command that reads it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.bases import Bases


@dataclass(frozen=True, kw_only=True)
class Case:
    """`argv` holds the arguments after `unimoe`. `reference` names the audio of the valid input, which an accepted case
    must give. `free`: a bundle's author may make this change, so other audio is not an error."""

    format: str
    what: str
    argv: tuple[str, ...]
    audio: Path | None = None
    reference: tuple[str, ...] = ()
    free: bool = False
    folder: Path = field(repr=False)


Mutator = Callable[[Bases, Path, random.Random], Case]
"""Makes a case in an empty folder."""


def mutators() -> dict[str, tuple[Mutator, int]]:
    """The mutators of every format, and their weights in the draw."""
    from tests.robustness import (
        of_audio,
        of_bundles,
        of_checkpoints,
        of_commands,
        of_descriptions,
        of_every_option,
        of_folders,
        of_lists,
        of_requests,
        of_videos,
    )  # fmt: skip

    modules = (
        of_bundles, of_descriptions, of_checkpoints, of_audio, of_lists, of_commands, of_folders, of_requests,
        of_videos, of_every_option,
    )  # fmt: skip
    return {name: entry for module in modules for name, entry in module.MUTATORS.items()}


def draw_case(bases: Bases, folder: Path, seed: int, only: Collection[str] = ()) -> Case:
    """The case of a seed, of all mutators or of those in `only`."""
    rng = random.Random(seed)
    table = mutators()
    names = [name for name in table if not only or name in only]
    name = rng.choices(names, [table[one][1] for one in names])[0]
    folder.mkdir(parents=True)
    return table[name][0](bases, folder, rng)


def seeds(seed: int, count: int) -> Iterator[int]:
    return (seed * 1_000_003 + index for index in range(count))
