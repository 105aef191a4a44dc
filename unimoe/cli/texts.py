"""Options of the commands that read a text: its source, and how it is spoken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from unimoe.cli.options import Number
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.options import SpeechOptions
from unimoe_runtime.frontend.phonemes import read_lexicon

_STDIN = "-"

Command = Callable[..., Any]


def text_options(command: Command) -> Command:
    """`--text-file`, `--speed` and `--lexicon`."""
    for option in (
        click.option("--lexicon", type=click.Path(path_type=Path), help="Pronunciations: a word and phonemes a line."),
        click.option("--speed", type=Number(0.25, 4.0), default=1.0, show_default=True, help="2 is faster."),
        click.option("--text-file", type=click.Path(path_type=Path), help="A file with the text; - for stdin."),
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
    try:
        if text_file is None or str(text_file) == _STDIN:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return text_file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PromptError(f"{text_file or 'stdin'}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise PromptError(f"{text_file or 'stdin'}: cannot be read as UTF-8 text ({error})") from None


def speech_options(speed: float, lexicon: Path | None) -> SpeechOptions:
    """Options for the front end. Raises PromptError if the lexicon cannot be read."""
    return SpeechOptions(speed=speed, lexicon={} if lexicon is None else read_lexicon(lexicon))
