"""Every option and argument of every command, with values of other types, huge numbers, odd texts and odd paths."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tests.robustness.bases import MUSIC, Bases
from tests.robustness.cases import Case, Mutator
from tests.robustness.of_commands import LARGE, NUMBERS

_TEXTS = ("", " ", "é" * 300, "\u2028", "../..", "-", "nan", "a\nb", "\udcff", "--help", "%s{0}", "0" * 5000)
_SPARED = {"help", "version", "backend", "listen", "target_list"}
_LONG = {"steps", "repetitions", "warmup", "texts"}  # so many of these are valid, and take minutes
Given = dict[str, Any]


def _odd_paths(folder: Path) -> dict[str, str]:
    """Paths that are no folder or file of ours, made in `folder` where they can be made."""
    for name in ("loop", "empty.json", "words.toml", "words.wav", "pipe"):
        (folder / name).unlink(missing_ok=True)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nowhere" / "file")
    (folder / "a folder").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "own file").write_text("mine")
    for name, content in (("empty.json", ""), ("words.toml", "some words = "), ("words.wav", "no audio")):
        (folder / name).write_text(content)
    os.mkfifo(folder / "pipe")
    own = ("loop", "dangling", "a folder", "full", "empty.json", "words.toml", "words.wav", "pipe", "no/such/place",
           "loop/inside", "words.wav/inside", "made.odd", "é\u2028.json", "x" * 300, "a[b]*")  # fmt: skip
    return {name[:20]: str(folder / name) for name in own} | {
        "nothing": "", "null": "/dev/null", "proc": "/proc/nothing", "nul": str(folder / "nul\udcff"),
    }  # fmt: skip


def _given(bases: Bases, folder: Path) -> dict[tuple[str, ...], Given]:
    """Parameters of a valid call of each command, by their names in the code. Inputs are copies in `folder`."""

    def copy(source: Path) -> str:
        target = folder / f"in-{source.name}"
        if not target.exists():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return str(target)

    bundle, corpus, made = copy(bases.bundle), copy(bases.corpus), str(folder / "made")
    recipe = folder / "recipe.toml"
    recipe.write_text("[data]\ndigit_strings = {}\nphrases = {}\nmelodies = {}\ncommands_per_voice = 0\n")
    text = dict(zip(("task", "text", "max_steps"), MUSIC[1::2], strict=True))
    return {
        ("export",): {"checkpoint": copy(bases.checkpoint), "bundle": made},
        ("pack",): {"bundle": bundle, "file": f"{made}.pack"},
        ("unpack",): {"file": copy(bases.pack), "folder": made},
        ("synth",): {"bundle": bundle, **text, "output": f"{made}.wav"},
        ("say-as",): {"bundle": bundle, "text": "hello cat"},
        ("plan",): {"source": bundle, "target": "rtx-4060"},  # "cpu" would measure this machine
        ("inspect",): {"bundle": bundle},
        ("voices",): {"bundle": bundle},
        ("inputs",): {"bundle": bundle, "graph": "head", "output": f"{made}.json"},
        ("verify",): {"bundle": bundle, "steps": "2"},
        ("profile",): {"bundles": bundle, "tasks": "music", "steps": "2", "repetitions": "1"},
        ("doctor",): {},
        ("eval",): {"model": bundle, "corpus": corpus, "texts": "2"},
        ("data", "sources"): {},
        ("data", "render"): {"recipe": str(recipe), "out": made, "workers": "1"},
        ("data", "import"): {"folder": copy(bases.recordings), "out": made, "workers": "1", "align": False},
        ("data", "join"): {"out": made, "corpora": corpus},
        ("data", "filter"): {"corpus": corpus, "out": made, "workers": "1"},
        ("data", "report"): {"corpus": corpus},
        ("data", "encode"): {"corpus": corpus, "codec": copy(bases.checkpoint / "codec"), "threads": "1"},
        ("data", "gather"): {"folder": copy(bases.spoken), "out": made},
        ("data", "durations"): {"corpus": corpus, "out": made, "threads": "1"},
        ("train", "check"): {"recipe": str(recipe)},
        ("train", "pack"): {"recipe": str(recipe), "package": made, "work": str(folder / "work")},
    }


def _command(words: tuple[str, ...]) -> click.Command:
    from unimoe.cli.group import cli

    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    return found


def _argv(command: click.Command, given: Given, name: str, value: str) -> Iterator[str]:
    """The words of a call in which the parameter `name` has `value`."""
    after: list[str] = []
    for parameter in command.params:
        chosen = value if parameter.name == name else given.get(str(parameter.name))
        if chosen is None:
            continue
        if isinstance(parameter, click.Argument):
            after.append(chosen)
        elif isinstance(chosen, bool):
            yield (parameter.opts if chosen else parameter.secondary_opts)[0]
        else:
            option = max(parameter.opts, key=len)
            yield from (f"{option}={chosen}",) if option.startswith("--") else (option, chosen)
    yield from ("--", *after) if after else ()


def every_option(bases: Bases, folder: Path, rng: random.Random) -> Case:
    calls = _given(bases, folder)
    words = rng.choice(sorted(calls))
    command = _command(words)
    parameters = [
        one
        for one in command.params
        if one.name not in _SPARED and not (isinstance(one, click.Option) and (one.is_flag or one.count))
    ]
    if not parameters:
        return Case(format="every option", what=" ".join(words), argv=words, free=True, folder=folder)
    parameter = rng.choice(parameters)
    inputs = [str(one) for one in calls[words].values() if isinstance(one, str) and one.startswith("/")]
    paths = _odd_paths(folder) | {"an input": rng.choice(inputs or [""])}
    is_path = isinstance(parameter.type, click.Path) or parameter.type.name == "bundle" or parameter.name == "json_to"
    if is_path:
        what, value = rng.choice(sorted(paths.items()))
    else:
        what = value = rng.choice(NUMBERS if rng.random() < 0.6 else _TEXTS)
        if parameter.name in _LONG:
            what = value = value.replace(LARGE, "5")
    argv = (*words, *_argv(command, calls[words], str(parameter.name), value))
    return Case(
        format="every option", what=f"{' '.join(words)}: {parameter.name} {what[:30]!r}", argv=argv, free=True,
        folder=folder,
    )  # fmt: skip


MUTATORS: dict[str, tuple[Mutator, int]] = {"every option": (every_option, 8)}
