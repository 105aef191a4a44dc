"""Options mean the same on every command: precisions with their older names, sizes with units, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from unimoe.cli.group import cli
from unimoe.cli.options import NO_ROOM, Command, Precision, Size, json_option, write_json
from unimoe_runtime.errors import OutputError


@pytest.mark.parametrize(
    ("word", "name"), [("fp32", "fp32"), ("float32", "fp32"), ("w8a8", "int8"), ("w8", "int8-weights"), ("W4", "int4")]
)
def test_older_words_of_precisions(word: str, name: str) -> None:
    assert Precision(("fp32", "int8", "int8-weights", "int4")).convert(word, None, None) == name


def test_a_precision_that_is_not_offered() -> None:
    with pytest.raises(click.BadParameter, match="not one of fp32, fp16"):
        Precision(("fp32", "fp16")).convert("fp8", None, None)


@pytest.mark.parametrize(
    ("unit", "word", "size"),
    [
        ("GB", "6", 6 * 10**9), ("GB", "6GB", 6 * 10**9), ("GB", "512MiB", 2**29), ("GB", "8mb", 8 * 10**6),
        ("B", "1.5 gb", 1_500_000_000), ("B", "512KiB", 524_288), ("B", "7", 7), ("B", "0", 0),
    ],
)  # fmt: skip
def test_sizes_have_units(unit: str, word: str, size: int) -> None:
    assert Size(unit).convert(word, None, None) == size


@pytest.mark.parametrize("word", ["", "MB", "-1MB", "3 apples", "1e3"])
def test_what_is_no_size(word: str) -> None:
    with pytest.raises(click.BadParameter, match="no size such as"):
        Size().convert(word, None, None)


@click.command(cls=Command)
@click.argument("name")
@json_option
def tell(name: str, json_to: str | None) -> None:
    if not write_json({"name": name}, json_to):
        click.echo(f"hello {name}")


def test_json_goes_to_standard_output_or_to_a_file(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(tell, ["a"]).stdout == "hello a\n"
    assert json.loads(run(tell, ["a", "--json"]).stdout) == {"name": "a"}
    assert json.loads(run(tell, ["--json", "a"]).stdout) == {"name": "a"}, "a word that is no file stays an argument"
    file = tmp_path / "out.json"
    assert run(tell, ["a", "--json", str(file)]).stdout == "hello a\n"
    assert json.loads(file.read_text()) == {"name": "a"}
    done = run(tell, ["a", "--json", "out.txt"])
    assert done.exit_code == 2 and "the file of --json ends in .json, or write --json=out.txt" in done.output
    odd = tmp_path / "out.txt"
    run(tell, ["a", f"--json={odd}"])
    assert json.loads(odd.read_text()) == {"name": "a"}


def test_the_file_of_json_is_no_other_path_of_the_command(tmp_path: Path) -> None:
    """A folder that the command makes, or a page: the JSON would replace it, or fail after all the work."""
    out = str(tmp_path / "out")
    corpus = str(tmp_path)
    for words in (["data", "filter", corpus, out], ["data", "join", out, corpus], ["pack", "demo", "-o", out]):
        done = CliRunner().invoke(cli, [*words, f"--json={out}"])
        assert done.exit_code == 2 and f"--json {out} is " in done.output and "as well; name another" in done.output


def int_options(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.IntRange]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from int_options(inner, (*words, name))
    for option in command.params:
        if isinstance(option.type, click.IntRange):
            yield f"{' '.join(words)} {option.opts[0]}", option.type


def test_every_whole_number_has_a_largest_value() -> None:
    """A hundred thousand processes or threads would take the machine down. Seeds may be any number."""
    found = dict(int_options(cli))
    assert len(found) > 20
    assert not [name for name, kind in found.items() if kind.max is None and not name.endswith("--seed")]


@pytest.mark.parametrize(
    "words",
    [
        ["export", "", "out"], ["export", "checkpoint", ""], ["pack", "bundle", "-o", ""], ["voices", ""],
        ["data", "join", "out", "corpus", ""], ["data", "durations", ".", ""], ["synth", "bundle", "--lexicon="],
        ["train", "all", "recipe.toml", "--work", ""], ["inspect", "bundle", "--json="],
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_current_folder(words: list[str]) -> None:
    with pytest.raises((click.UsageError, OutputError), match=r"the path is empty|cannot be written"):
        cli.main(words, standalone_mode=False)


@pytest.mark.parametrize("name", ["out", "output", "work", "cache", "folder"])
@pytest.mark.parametrize("number", NO_ROOM)
def test_an_error_without_a_name_gets_that_of_the_output(name: str, number: int) -> None:
    """`write` on an open file raises an error that says nothing of the file."""

    def full(**_: object) -> None:
        raise OSError(number, "No room")

    for given, wanted in ((["here"], "here"), ([], None)):
        made = Command("make", callback=full, params=[click.Argument([name], required=False)])
        with pytest.raises(OSError, match="No room") as caught:
            made.main(given, standalone_mode=False)
        assert caught.value.filename == wanted
