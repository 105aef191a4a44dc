"""Commands of `unimoe data` for synthetic speech: speak, transcribe and gather clips, train parts of the front end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from unimoe.cli.data_options import CORPUS, OUT, RECIPE, WORKERS, incomplete_when_stopped, read_section, tell_corpus
from unimoe.cli.options import RATE_HZ, THREADS, Command, Number, json_option, write_json
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import as_word, print_next


@click.command(cls=Command)
@click.argument("recipe", type=RECIPE)
@click.argument("out", type=OUT)
@click.option("--hours", type=Number(min=0, min_open=True), help="Stop after this many hours of speech.")
@WORKERS
@json_option
def speak(recipe: Path, out: Path, hours: float | None, workers: int, json_to: str | None) -> None:
    """Speak the texts of RECIPE's section [speech] into the folder OUT, clip by clip. Resumes after an interruption."""
    from unimoe.data.kokoro import require_kokoro
    from unimoe.data.requirements import require_all
    from unimoe.data.speaking import CLIPS, read_clips, render_speech
    from unimoe.data.speech_texts import SpeechTextRecipe, draw_requests
    from unimoe.data.text_sources import require_texts
    from unimoe.training.products import Products

    section = read_section(recipe, "speech")
    require_all((require_texts, require_kokoro))
    wanted = draw_requests(SpeechTextRecipe.from_dict(section, f"{recipe}: [speech]"))
    # Clips are numbered: those of another section are other texts.
    Products(out).require(out / CLIPS, {"speech": section})
    with progress_bar("speaking") as progress:
        for count, _ in render_speech(out, wanted, num_workers=workers, hours=hours):
            progress("speaking", count, len(wanted))
    lines = read_clips(out)
    spoken = sum(line.get("duration_s", 0.0) for line in lines) / 3600
    if not write_json({"folder": str(out), "clips": len(lines), "hours": round(spoken, 4)}, json_to):
        click.echo(f"{len(lines):,} clips, {spoken:.2f} hours in {out}")
        print_next(f"`unimoe data hear {as_word(out)}`")


@click.command(cls=Command)
@click.argument("folder", type=CORPUS)
@click.option(
    "--judge", type=click.Choice(["tiny.en", "base"]), default="tiny.en", show_default=True, help="The Whisper model."
)
@WORKERS
@json_option
def hear(folder: Path, judge: Any, workers: int, json_to: str | None) -> None:
    """Transcribe the clips of a spoken FOLDER with Whisper, and mark those that differ from their text."""
    from unimoe.data.speaking import read_clips, read_heard
    from unimoe.evaluation.hearing import hear_corpus, left_out_counts

    total = len(read_clips(folder))
    with progress_bar("hearing") as progress:
        for count in hear_corpus(folder, size=judge, num_workers=workers):
            progress("hearing", count, total)
    lines = read_heard(folder)
    left_out = left_out_counts(lines)
    words = sum(line["words"] for line in lines)
    errors = sum(line["word_errors"] for line in lines)
    record = {"folder": str(folder), "clips": len(lines), "wer": errors / max(1, words), "left_out": dict(left_out)}
    if write_json(record, json_to):
        return
    for reason, count in left_out.items():
        click.echo(f"{count:7,} left out: {reason}")
    click.echo(f"{len(lines):,} clips heard, {100 * errors / max(1, words):.1f} % of words wrong")
    print_next(f"`unimoe data gather {as_word(folder)} CORPUS`")


@click.command(cls=Command)
@click.argument("folder", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--rate", default=24000, show_default=True, type=RATE_HZ, help="Sample rate in Hz.")
@click.option("--unheard", is_flag=True, help="Include clips that Whisper has not transcribed yet.")
@json_option
def gather(folder: Path, out: Path, rate: int, unheard: bool, json_to: str | None) -> None:
    """Make the corpus OUT from the clips of a spoken FOLDER that passed Whisper."""
    from unimoe.data.gathering import gather_clips

    with incomplete_when_stopped(out):
        corpus = gather_clips(folder, out, sample_rate_hz=rate, only_heard=not unheard)
    tell_corpus(corpus, out, json_to, next_steps=[f"`unimoe data report {as_word(out)}`"])


@click.command(cls=Command)
@click.argument("out", type=OUT)
@click.option("--recipe", type=RECIPE, help="A recipe whose section [letter_to_sound] has sizes.")
@click.option("--threads", default=2, show_default=True, type=THREADS, help="CPU threads.")
@json_option
def lexicon(out: Path, recipe: Path | None, threads: int, json_to: str | None) -> None:
    """Write the lexicon and train the letter-to-sound model of the front end into OUT; print errors on unseen words."""
    import torch

    from unimoe.data.cmudict import read_dictionary
    from unimoe.training.frontend_parts import make_lexicon
    from unimoe.training.letter_to_sound import LetterToSoundRecipe

    torch.set_num_threads(threads)
    wanted = LetterToSoundRecipe.from_dict(read_section(recipe, "letter_to_sound") if recipe else {})
    read_dictionary()  # an error here, before OUT is made
    with incomplete_when_stopped(out), _training_progress("letter to sound") as progress:
        errors = make_lexicon(out, wanted, progress)
    if write_json(asdict(errors), json_to):
        return
    click.echo(
        f"of {errors.num_words:,} unseen words {100 * errors.words:.1f} % are wrong, {100 * errors.phonemes:.1f} % of "
        f"their phonemes; without stress {100 * errors.words_without_stress:.1f} and "
        f"{100 * errors.phonemes_without_stress:.1f} %"
    )


@click.command(cls=Command)
@click.argument("corpus", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--recipe", type=RECIPE, help="A recipe whose section [durations] has sizes.")
@click.option("--threads", default=2, show_default=True, type=THREADS, help="CPU threads.")
@json_option
def durations(corpus: Path, out: Path, recipe: Path | None, threads: int, json_to: str | None) -> None:
    """Train the front end's duration predictor on a gathered CORPUS into OUT; print errors on its test clips."""
    import torch

    from unimoe.data.corpus import Corpus
    from unimoe.training.durations import DurationRecipe
    from unimoe.training.frontend_parts import make_durations

    torch.set_num_threads(threads)
    wanted = DurationRecipe.from_dict(read_section(recipe, "durations") if recipe else {})
    with incomplete_when_stopped(out), _training_progress("durations") as progress:
        found = make_durations(out, Corpus.open(corpus), wanted, progress)
    if write_json(dict(zip(("predictor", "means"), map(asdict, found), strict=True)), json_to):
        return
    for name, errors in zip(("predictor", "means"), found, strict=True):
        click.echo(
            f"{name:10} {errors.phoneme_ms:5.1f} ms a phoneme, {errors.middle_ms:5.1f} ms where it lies, "
            f"{100 * errors.total:.1f} % of a clip's length ({errors.num_clips:,} clips)"
        )


@contextmanager
def _training_progress(name: str) -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar with the loss beside it."""
    with progress_bar(name) as progress:
        yield lambda step, total, loss: progress(f"{name}, loss {loss:.3f}", step, total)


SPEECH_COMMANDS = (speak, hear, gather, lexicon, durations)
