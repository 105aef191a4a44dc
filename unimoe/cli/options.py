"""Options that mean the same on every command: precisions, sizes, lists of numbers, JSON, backend and target."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import click

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
STDOUT = "-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write for which there is no room."""
_OUTPUTS = ("out", "output", "result", "package", "work", "cache", "folder", "bundle")
"""Names of parameters that say where a command writes, the most telling first."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number within limits."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number from `low` to `high`. The default for `high`, about a million, catches mistyped numbers."""

    def __init__(self, low: int, high: int = 1 << 20) -> None:
        super().__init__(low, high)


THREADS = Whole(1, 1024)
PROCESSES = Whole(1, 256)
RATE_HZ = Whole(8000, 768_000)


class Size(click.ParamType[int]):
    """A size such as 300MB, 1.5GB or 512MiB, in bytes. A number without a unit is in `bare`."""

    name = "SIZE"

    def __init__(self, bare: str = "B") -> None:
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip(), re.IGNORECASE)
        unit = (found[2] or self._bare).upper() if found else ""
        if found is None or unit not in _UNITS:
            self.fail(f"{value!r} is no size such as 300MB, 1.5GB or 512MiB", param, ctx)
        return int(float(found[1]) * _UNITS[unit])


class Precision(click.ParamType[str]):
    """A precision by its name; older words such as float32 or w8a8 are accepted."""

    name = "PRECISION"

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = tuple(allowed)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self._allowed)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from unimoe_runtime.errors import ConfigError
        from unimoe_runtime.hardware.precisions import precision_name

        try:
            name = precision_name(value)
        except ConfigError:
            name = ""
        if name not in self._allowed:
            self.fail(f"{value!r} is not one of {', '.join(self._allowed)}", param, ctx)
        return name


class Counts(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers, separated by commas."""

    name = "N[,N…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(word) for word in value.split(","))
        except ValueError:
            counts = ()
        if not counts or min(counts) < 1:
            self.fail(f"{value!r} is no list of whole numbers of 1 and more, such as 1,2", param, ctx)
        return counts


class Command(click.Command):
    """A command whose `--json` takes an optional file, and whose paths are not empty.

    The word after `--json` is its file if it ends in `.json` or is `-`; `--json=FILE` takes any name. An empty path
    would mean the current folder, and is mostly an unset variable of a shell.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error of a write to an open file, which has no name, gets that of the output."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None and error.errno in NO_ROOM:
                place = next((ctx.params[name] for name in _OUTPUTS if ctx.params.get(name)), None)
                error.filename = None if place is None else os.fspath(place)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        after_json = {following for word, following in pairwise(args) if word == "--json"}
        words = list(_with_json_files(args))
        try:
            self._require_paths(ctx, words)
            rest = super().parse_args(ctx, words)
        except click.UsageError as error:
            unexpected = error.message.partition("(")[2].removesuffix(")").split()
            for word in after_json.intersection(unexpected):
                hint = f"the file of --json ends in .json, or write --json={word}"
                raise click.UsageError(f"{error.message}; {hint}", ctx=ctx) from None
            raise
        _require_own_file(ctx)
        return rest

    def _require_paths(self, ctx: click.Context, words: list[str]) -> None:
        given, _, _ = self.make_parser(ctx).parse_args(list(words))
        for parameter in self.get_params(ctx):
            if isinstance(parameter.type, click.Path):
                value = given.get(parameter.name or "")
                if "" in (value if isinstance(value, list | tuple) else (value,)):
                    raise click.BadParameter("the path is empty", ctx=ctx, param=parameter)


def _require_own_file(ctx: click.Context) -> None:
    """The file of --json is no other path of the command line, whose content it would replace."""
    json_to = ctx.params.get("json_to")
    if json_to is None or json_to == STDOUT:
        return
    for parameter in ctx.command.get_params(ctx):
        value = ctx.params.get(parameter.name or "")
        paths = [path for path in (value if isinstance(value, tuple) else (value,)) if isinstance(path, Path)]
        if Path(json_to).resolve() in (path.resolve() for path in paths):
            raise click.UsageError(
                f"--json {json_to} is {parameter.human_readable_name} as well; name another", ctx=ctx
            )


class Group(click.Group):
    """A group that lists each command with the whole first sentence of its help, on as many lines as that takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command.help or "")) for name, command in commands if command])


def _first_sentence(text: str) -> str:
    words = " ".join(text.split())
    sentence, stop, _ = words.partition(". ")
    return sentence + stop.strip()


def _with_json_files(args: list[str]) -> Iterator[str]:
    waiting = iter([*args, None])
    word = next(waiting)
    while word is not None:
        following = next(waiting)
        if word == "--json":
            is_file = following is not None and (following == STDOUT or following.endswith(".json"))
            yield f"--json={following if is_file else STDOUT}"
            if is_file:
                following = next(waiting)
        else:
            yield word
        word = following


def read_toml_section(path: Path, name: str) -> dict[str, Any]:
    """A section of a TOML file. Raises ConfigError if the file is missing or damaged, or lacks the section."""
    from unimoe_runtime.errors import ConfigError
    from unimoe_runtime.files.json import read_toml

    section = read_toml(path, ConfigError).get(name)
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: the section [{name}] is missing")
    return section


def json_option(function: _Function) -> _Function:
    """`--json`: prints the result as JSON instead of words, or prints the words and writes the JSON to a file.

    A file that cannot be written is an error before the command begins.
    """
    return click.option(
        "--json", "json_to", metavar="[FILE.json]", callback=_writable,
        help="Print the result as JSON instead; with FILE.json, write it there as well.",
    )(function)  # fmt: skip


def _writable(context: click.Context, parameter: click.Parameter, json_to: str | None) -> str | None:
    if json_to not in (None, STDOUT):
        from unimoe_tools.output import require_writable

        require_writable(Path(str(json_to)))
    return json_to


def write_json(value: Any, json_to: str | None, *, err: bool = False) -> bool:
    """Write a result as JSON to the destination of `--json`. True if it was printed, so the caller prints no words.

    `err`: print on standard error, because audio goes to standard output.
    """
    from unimoe_tools.output import write_output

    if json_to is None:
        return False
    text = json.dumps(value, indent=1, default=str)
    if json_to == STDOUT:
        click.echo(text, err=err)
        return True
    write_output(Path(json_to), text + "\n")
    return False


def _trust(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ["UNIMOE_TRUST_ENGINES"] = "1"


trust_option = click.option(
    "--trust-engines", is_flag=True, expose_value=False, callback=_trust,
    help="Open engines that were not built on this machine, and remember that you trust them: they are native code.",
)  # fmt: skip


def backend_option(function: _Function) -> _Function:
    """`--backend` chooses what computes."""
    from unimoe_runtime.backends.factory import BACKENDS

    return click.option(
        "--backend", type=click.Choice(BACKENDS), default="onnxruntime", show_default=True,
        help="What computes: the CPU (onnxruntime, or numpy, which is slow and exact) or a GPU.",
    )(function)  # fmt: skip


def engine_options(function: _Function) -> _Function:
    """`--backend`, `--target` and `--trust-engines`. CUDA is `--backend onnxruntime-cuda` or `--backend tensorrt`."""
    options = (
        backend_option,
        click.option("--target", help="Whose engines --backend tensorrt runs. [default: those that fit this GPU]"),
        trust_option,
        click.option("--provider", "providers", multiple=True, hidden=True, callback=_providers),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _providers(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    """ONNX Runtime's other execution providers, which copy through the host. CUDA and TensorRT are backends."""
    for name, backend in (("CUDAExecutionProvider", "onnxruntime-cuda"), ("TensorrtExecutionProvider", "tensorrt")):
        if name in value:
            raise click.UsageError(f"CUDA has one way here: --backend {backend} instead of --provider {name}")
    return value or None
