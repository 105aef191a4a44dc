"""Rendering of the demo corpus: four voices of digits, commands and phrases, six instruments of melodies.

Runs in a few minutes on two cores and takes about 1.5 gigabytes. What a broken-off run left in the folder is
rendered again: a corpus is a function of the recipe and its seed.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.progress import Progress

from unimoe.data import flite, melodies
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.data.melodies import Melody
from unimoe.data.texts import draw_commands, draw_digit_strings, split_of
from unimoe.data.words import common_words, draw_phrases

TARGET_RMS = 0.08
PEAK_LIMIT = 0.9
_CHUNK = 50

Clip = tuple[dict[str, Any], np.ndarray]
"""An item's fields without its place in the audio, and its samples."""


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """How much of what to render."""

    seed: int = 0
    sample_rate_hz: int = 16000
    digit_strings: dict[str, int] = field(
        default_factory=lambda: {"rms": 2900, "slt": 2900, "awb": 1000, "kal16": 1000}
    )
    commands_per_voice: int = 750
    phrases: dict[str, int] = field(default_factory=lambda: {"rms": 2000, "slt": 2000, "awb": 1000, "kal16": 1000})
    phrase_words: int = 3000
    melodies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(melodies.PROGRAMS, 700))

    def __post_init__(self) -> None:
        unknown = sorted(set(self.melodies) - set(melodies.PROGRAMS))
        if unknown:
            raise ValueError(f"melodies names {unknown[0]!r}; it must be one of {', '.join(melodies.PROGRAMS)}")


def normalise_loudness(pcm_L: np.ndarray) -> np.ndarray:
    """Scale a clip to a root mean square of 0.08, less where its peak would pass 0.9."""
    rms, peak = float(np.sqrt(np.mean(pcm_L**2))), float(np.abs(pcm_L).max())
    if peak == 0:
        return pcm_L
    return pcm_L * min(TARGET_RMS / rms, PEAK_LIMIT / peak)


def _speak_all(texts: Sequence[tuple[str, str]], voice: str, sample_rate_hz: int) -> list[Clip]:
    clips: list[Clip] = []
    for kind, text in texts:
        pcm_L, phonemes = flite.speak(text, voice, sample_rate_hz)
        fields = {"domain": "speech", "kind": kind, "text": text, "voice": voice, "phonemes": phonemes}
        clips.append((fields, pcm_L))
    return clips


def _play_all(batch: Sequence[Melody], sample_rate_hz: int) -> list[Clip]:
    clips: list[Clip] = []
    for melody, pcm_L in zip(batch, melodies.play(batch, sample_rate_hz), strict=True):
        notes = [{"pitch": note.pitch, "start_s": note.start_s, "end_s": note.end_s} for note in melody.notes]
        fields = {"domain": "music", "kind": "melody", "text": melody.text, "instrument": melody.instrument}
        clips.append(({**fields, "tempo_bpm": melody.tempo_bpm, "notes": notes}, pcm_L))
    return clips


def _plan(recipe: CorpusRecipe) -> dict[str, tuple[Callable[..., list[Clip]], list[Any], str]]:
    """For each source: the function that renders a chunk, what to render, and the licence."""
    plan: dict[str, tuple[Callable[..., list[Clip]], list[Any], str]] = {}
    for voice, count in recipe.digit_strings.items():
        rng = random.Random(f"{recipe.seed}/{voice}")
        texts = [("digits", text) for text in draw_digit_strings(count, rng)]
        texts += [("commands", text) for text in draw_commands(recipe.commands_per_voice, rng)]
        render = partial(_speak_all, voice=voice, sample_rate_hz=recipe.sample_rate_hz)
        plan[voice] = (render, texts, flite.LICENCE)
    words = common_words(recipe.phrase_words) if recipe.phrases else []
    for voice, count in recipe.phrases.items():
        rng = random.Random(f"{recipe.seed}/{voice}-phrases")
        texts = [("phrases", text) for text in draw_phrases(count, words, rng)]
        render = partial(_speak_all, voice=voice, sample_rate_hz=recipe.sample_rate_hz)
        plan[f"{voice}-phrases"] = (render, texts, flite.LICENCE)
    for instrument, count in recipe.melodies.items():
        drawn = melodies.draw_melodies(count, instrument, random.Random(f"{recipe.seed}/{instrument}"))
        plan[instrument] = (partial(_play_all, sample_rate_hz=recipe.sample_rate_hz), drawn, melodies.LICENCE)
    return plan


def render_corpus(folder: str | Path, recipe: CorpusRecipe, *, num_workers: int = 2) -> Corpus:
    """Render a corpus into `folder` and open it. Raises OutputError when a program is missing or fails."""
    if recipe.digit_strings or recipe.phrases:
        flite.require_flite()
    if recipe.melodies:
        melodies.require_fluidsynth()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.jsonl").unlink(missing_ok=True)
    plan = _plan(recipe)
    items: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(num_workers) as pool, Progress() as progress:
        for source, (render, wanted, _) in plan.items():
            chunks = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
            task = progress.add_task(source, total=len(chunks))
            clips: list[Clip] = []
            for rendered in pool.imap(render, chunks):
                clips += rendered
                progress.advance(task)
            audio = [normalise_loudness(pcm_L) for _, pcm_L in clips]
            offsets = write_audio(folder / f"{source}.npy", audio)
            for (fields, _), offset, pcm_L in zip(clips, offsets, audio, strict=True):
                place = {
                    "source": source,
                    "split": split_of(fields["text"]),
                    "offset": offset,
                    "length": len(pcm_L),
                }
                items.append({**fields, **place})
    licences = {source: licence for source, (_, _, licence) in plan.items()}
    write_index(folder, items, sample_rate_hz=recipe.sample_rate_hz, licences=licences, seed=recipe.seed)
    return Corpus.open(folder)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", default=0, show_default=True, help="Another seed draws other texts and melodies.")
@click.option("--workers", default=2, show_default=True, help="Processes that render at a time.")
def command(folder: Path, seed: int, workers: int) -> None:
    """Render the demo corpus (speech by flite, melodies by fluidsynth) into FOLDER."""
    corpus = render_corpus(folder, CorpusRecipe(seed=seed), num_workers=workers)
    hours = sum(item.length for item in corpus) / corpus.sample_rate_hz / 3600
    click.echo(f"{len(corpus)} clips, {hours:.2f} hours in {folder}")


if __name__ == "__main__":
    command()
