"""Figures of a codec on held-out clips: how well speech and melodies survive it, and how its codebooks are used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from unimoe.bars import progress_bars
from unimoe.codec.base import Codec, load_codec
from unimoe.data.corpus import Corpus, Item
from unimoe.evaluation import intelligibility
from unimoe.evaluation.pitch import NO_NOTES, score_notes
from unimoe.evaluation.word_scores import ALL_JUDGES, Judge, WordScore, open_judges, score_words


@dataclass(frozen=True, kw_only=True)
class SpeechFigures:
    """Figures of one voice: mean STOI, and by judge the word errors of the codec's output and of the originals.

    A judge with a grammar hears only digit strings.
    """

    stoi: float
    words: Mapping[str, WordScore]
    num_clips: int

    def to_dict(self) -> dict[str, Any]:
        words = {judge: score.to_dict() for judge, score in self.words.items()}
        return {"stoi": self.stoi, "words": words, "clips": self.num_clips}


@dataclass(frozen=True, kw_only=True)
class MusicFigures:
    """Figures of one instrument: shares of the notes that are heard as written."""

    original_exact: float
    codec_exact: float
    codec_octave: float
    rotated_exact: float
    num_notes: int


@dataclass(frozen=True, kw_only=True)
class CodecFigures:
    speech: Mapping[str, SpeechFigures]
    music: Mapping[str, MusicFigures]
    perplexity: tuple[float, ...]
    """exp of the entropy of each codebook's codes: how many evenly used codes have the same entropy."""
    unmeasured: Mapping[str, str]
    """Name of a judge and the reason why it is missing, one line."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "speech": {voice: figures.to_dict() for voice, figures in self.speech.items()},
            "music": {name: asdict(figures) for name, figures in self.music.items()},
            "perplexity": list(self.perplexity),
            "unmeasured": dict(self.unmeasured),
        }


def resynthesize(codec: Codec, pcm_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode and decode audio. Returns codes_KT and audio of the same length."""
    codes_BKT = codec.encode(torch.from_numpy(pcm_L)[None])
    made_L = codec.decode(codes_BKT)[0, : len(pcm_L)].numpy()
    return codes_BKT[0].numpy(), made_L


def evaluate_codec(
    codec: Codec, corpus: Corpus, clips_per_source: int = 40, judges: Sequence[str] = ALL_JUDGES
) -> CodecFigures:
    """Measure on the test split, at most `clips_per_source` clips of each voice and instrument."""
    sources: dict[str, list[Item]] = defaultdict(list)
    for item in corpus.select(split="test"):
        name = item.voice or item.instrument or item.source
        if item.kind != "commands" and len(sources[name]) < clips_per_source:
            sources[name].append(item)
    opened, unmeasured = open_judges(judges)
    speech: dict[str, SpeechFigures] = {}
    music: dict[str, MusicFigures] = {}
    counts_KV = np.zeros((codec.num_codebooks, codec.codebook_size))
    with progress_bars() as progress:
        for source, items in progress.track(sources.items(), description="codec", total=len(sources)):
            originals = [item.pcm() for item in items]
            codes, made = zip(*(resynthesize(codec, pcm_L) for pcm_L in originals), strict=True)
            for codes_KT in codes:
                for k, codes_T in enumerate(codes_KT):
                    counts_KV[k] += np.bincount(codes_T, minlength=codec.codebook_size)
            if items[0].domain == "speech":
                speech[source] = _speech_figures(items, made, opened, corpus.sample_rate_hz)
            else:
                music[source] = _music_figures(items, originals, made, corpus.sample_rate_hz)
    share_KV = counts_KV / counts_KV.sum(axis=1, keepdims=True)
    entropy_K = -(share_KV * np.log(np.where(share_KV > 0, share_KV, 1))).sum(axis=1)
    perplexity = tuple(round(float(p), 1) for p in np.exp(entropy_K))
    return CodecFigures(speech=speech, music=music, perplexity=perplexity, unmeasured=unmeasured)


def _speech_figures(
    items: Sequence[Item], made: Sequence[np.ndarray], judges: Sequence[Judge], rate_hz: int
) -> SpeechFigures:
    stoi = [
        intelligibility.short_time_intelligibility(item.pcm(), made_L, rate_hz)
        for item, made_L in zip(items, made, strict=True)
    ]
    words: dict[str, WordScore] = {}
    for judge in judges:
        for kind in dict.fromkeys(item.kind for item in items):
            hear = judge.for_kind(kind)
            if hear is None or kind == "phrases":
                continue
            heard = [(item, made_L) for item, made_L in zip(items, made, strict=True) if item.kind == kind]
            score = score_words(
                hear,
                [item.text for item, _ in heard],
                [made_L for _, made_L in heard],
                [item.pcm() for item, _ in heard],
                rate_hz,
            )
            words[judge.name] = words.get(judge.name, WordScore()) + score
    return SpeechFigures(stoi=float(np.mean(stoi)), words=words, num_clips=len(items))


def _music_figures(
    items: Sequence[Item], originals: Sequence[np.ndarray], made: Sequence[np.ndarray], rate_hz: int
) -> MusicFigures:
    original = codec = rotated = NO_NOTES
    for item, other, original_L, made_L in zip(items, [*items[1:], items[0]], originals, made, strict=True):
        original += score_notes(original_L, rate_hz, item.notes)
        codec += score_notes(made_L, rate_hz, item.notes)
        rotated += score_notes(made_L, rate_hz, other.notes)
    return MusicFigures(
        original_exact=original.exact_share,
        codec_exact=codec.exact_share,
        codec_octave=codec.octave_share,
        rotated_exact=rotated.exact_share,
        num_notes=codec.total,
    )


def _print_tables(figures: CodecFigures, console: Console) -> None:
    table = Table("voice", "heard by", "WER original", "WER codec", "S / D / I", "WER rotated", "STOI", "clips")
    for voice, row in figures.speech.items():
        for judge, score in row.words.items():
            kinds = f"{score.made.substitutions} / {score.made.deletions} / {score.made.insertions}"
            rates = (f"{100 * errors.rate:.1f} %" for errors in (score.original, score.made, score.rotated))
            original, made, rotated = rates
            table.add_row(voice, judge, original, made, kinds, rotated, f"{row.stoi:.3f}", str(row.num_clips))
    console.print(table)
    table = Table("instrument", "notes original", "notes codec", "up to octave", "rotated", "notes")
    for instrument, line in figures.music.items():
        shares = (line.original_exact, line.codec_exact, line.codec_octave, line.rotated_exact)
        table.add_row(instrument, *(f"{100 * share:.0f} %" for share in shares), str(line.num_notes))
    console.print(table)
    for name, why in figures.unmeasured.items():
        console.print(f"{name}: not measured, {why}", highlight=False, markup=False)
    console.print(f"codes used evenly, per codebook: {', '.join(f'{p:.0f}' for p in figures.perplexity)}")


@click.command()
@click.argument("codec", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("corpus", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--clips", default=40, show_default=True, help="Held-out clips of each voice and instrument.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(codec: Path, corpus: Path, clips: int, as_json: bool) -> None:
    """Measure how well speech and music survive the CODEC folder's codec, on the test clips of a rendered CORPUS."""
    figures = evaluate_codec(load_codec(codec), Corpus.open(corpus), clips)
    if as_json:
        click.echo(json.dumps(figures.to_dict(), indent=2))
    else:
        _print_tables(figures, Console())


if __name__ == "__main__":
    command()
