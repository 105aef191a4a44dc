"""`unimoe say-as`: prints how a text is read, without speaking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.process import tell
from unimoe.cli.texts import read_text, speech_options, text_options
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError, PromptError
from unimoe_runtime.frontend import SpeechOptions, open_frontend
from unimoe_runtime.frontend.reading import Notes
from unimoe_runtime.frontend.speech import Utterance
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


@click.command("say-as", cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.argument("text", required=False)
@text_options
@click.option("--voice", default="", help="The voice whose durations are shown. [default: the first]")
@json_option
def say_as(
    bundle: Path,
    text: str | None,
    text_file: Path | None,
    speed: float,
    lexicon: Path | None,
    voice: str,
    json_to: str | None,
) -> None:
    """Print the words, phonemes, durations and pauses that a BUNDLE reads in TEXT (- for stdin), without speaking."""
    explain(bundle, read_text(text, text_file), voice, speech_options(speed, lexicon), json_to)


def explain(bundle: Path, text: str, voice: str, options: SpeechOptions, json_to: str | None) -> None:
    """Print how a bundle's front end reads a text, piece by piece.

    Raises BundleError for a bundle without a front end, PromptError for a front end without phonemes.
    """
    folder = open_bundle(bundle).checked_frontend()
    if folder is None:
        raise BundleError(f"{bundle}: has no front end, so it reads no text")
    frontend = open_frontend(folder)
    if not isinstance(frontend, TimelineFrontEnd):
        raise PromptError("this bundle's model reads text by itself: there are no phonemes to show")
    notes = Notes()
    pieces = frontend.utterances(text, voice, options, notes)
    if json_to is not None:
        records = [_record(piece) for piece in pieces]  # the warnings are complete with the last one
        write_json({"pieces": records, "warnings": notes.warnings}, json_to)
        return
    for piece in pieces:
        for line in _lines(piece):
            click.echo(line)
    for warning in notes.warnings:
        tell(warning)


def _lines(piece: Utterance) -> Iterator[str]:
    yield f"speech: {piece.caption}"
    if piece.silence_before_s:
        yield f"  (silence)  {1000 * piece.silence_before_s:.0f} ms"
    width = max((len(word.word) for word in piece.words), default=0)
    for word in piece.words:
        name = "(pause)" if word.is_pause else word.word
        sounds = "" if word.is_pause else " ".join(word.phonemes)
        yield f"  {name:<{max(width, 7)}}  {1000 * sum(word.durations_s):5.0f} ms  {sounds}".rstrip()
    if piece.silence_after_s:
        yield f"  (silence)  {1000 * piece.silence_after_s:.0f} ms"


def _record(piece: Utterance) -> dict[str, Any]:
    words = [
        {"word": word.word, "phonemes": list(word.phonemes), "durations_s": [round(one, 4) for one in word.durations_s]}
        for word in piece.words
    ]
    silences = {"silence_before_s": piece.silence_before_s, "silence_after_s": piece.silence_after_s}
    return {"speech": piece.caption, "words": words, **silences}
