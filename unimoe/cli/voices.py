"""`unimoe voices`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.tables import Column, print_facts, print_table
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.bundles.abilities import Abilities, read_abilities


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@json_option
def voices(bundle: Path, json_to: str | None) -> None:
    """List what a BUNDLE can say and play: voices, instruments, named tunes, languages, limits."""
    abilities = read_abilities(open_bundle(bundle))
    if not write_json({"bundle": str(bundle), **abilities.to_dict()}, json_to):
        print_abilities(abilities)


def print_abilities(abilities: Abilities) -> None:
    """Tables of names, then the limits."""
    for title, named in (("voices", abilities.voices), ("instruments", abilities.instruments)):
        if any(named.values()):
            described = [Column(title=title[:-1]), Column(title="description", prose=True)]
            print_table(described, [[name, _first(name, named) + text] for name, text in named.items()], title=title)
        elif named:
            print_table([Column(title="", prose=True)], [[", ".join(_first_marked(list(named)))]], title=title)
    click.echo()
    clones = f"yes, from a recording of up to {abilities.max_voice_s:g} s" if abilities.max_voice_s else "no"
    print_facts({
        "languages": ", ".join(abilities.languages),
        "clones a voice": clones,
        "music for a video": "yes" if abilities.takes_video else "no",
        **{f"limit of {name}" if name != "sound" else name: words for name, words in abilities.limits.items()},
        "named tunes": ", ".join(abilities.tunes) or "none",
        **{f"{task}, such as": ", ".join(f"“{text}”" for text in texts) for task, texts in abilities.examples.items()},
    })  # fmt: skip


def _first(name: str, named: Mapping[str, str]) -> str:
    return "the default; " if name == next(iter(named)) else ""


def _first_marked(names: list[str]) -> list[str]:
    return [f"{names[0]} (default)", *names[1:]]
