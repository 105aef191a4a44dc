"""Options of the commands that read a text: its source, and how it is spoken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from unimoe.cli.options import Number
from unimoe_runtime.errors import PromptError
from unimoe_runtime.files.text import MAX_BYTES, decode_text, reason_of
from unimoe_runtime.frontend.options import SpeechOptions
from unimoe_runtime.frontend.phonemes import read_lexicon

_STDIN = "-"

Command = Callable[..., Any]


def text_options(command: Command) -> Command:
    """`--text-file`, `--speed` and `--lexicon`."""
    for option in (
        click.option(
            "--lexicon",
            type=click.Path(path_type=Path),
            help="A file of pronunciations: a word and its phonemes on each line.",
        ),
        click.option(
            "--speed",
            type=Number(0.25, 4.0),
            default=1.0,
            show_default=True,
            help="Speed of speech; 2 is twice as fast.",
        ),
        click.option("--text-file", type=click.Path(path_type=Path), help="A file with the text, or - for stdin."),
    ):
        command = option(command)
    return command


def read_text(text: str | None, text_file: Path | None) -> str:
    """The given text: the argument itself, stdin for `-`, or a file's content.

    Raises UsageError unless exactly one is given, PromptError if a file is not UTF-8 text.
    """
    if (text is None) == (text_file is None):
        raise click.UsageError("give the text with --text or with --text-file, one of the two")
    if text_file is None and text != _STDIN:
        return str(text)
    source = _STDIN if text_file is None else str(text_file)
    name = "stdin" if source == _STDIN else source
    try:
        # A pipe as a file, such as a shell's <(…), is read as well.
        with nullcontext(sys.stdin.buffer) if source == _STDIN else open(source, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except AttributeError:
        raise PromptError("stdin: is closed: give the text with --text or --text-file") from None
    except (OSError, ValueError) as error:
        raise PromptError(f"{name}: cannot be read ({reason_of(error)})") from None
    if len(content) > MAX_BYTES:
        raise PromptError(f"{name}: has more than {MAX_BYTES} bytes")
    return decode_text(content, name, PromptError)


def speech_options(speed: float, lexicon: Path | None) -> SpeechOptions:
    """Options for the front end. Raises PromptError if the lexicon cannot be read."""
    return SpeechOptions(speed=speed, lexicon={} if lexicon is None else read_lexicon(lexicon))
