"""Figures of a codec on held-out clips: what survives of speech and of melodies, and how the codebooks are used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from unimoe.codec.base import Codec, load_codec
from unimoe.data.corpus import Corpus, Item
from unimoe.evaluation import intelligibility
from unimoe.evaluation.demo import FREE_KINDS
from unimoe.evaluation.pitch import NO_NOTES, score_notes


@dataclass(frozen=True, kw_only=True)
class SpeechFigures:
    """Of one source: mean STOI, and word error rates of the original and of what came out of the codec.

    Word error rates are of digit strings by grammar, and of free sentences by the recognizer's full model of English.
    """

    stoi: float
    original_wer: float | None
    codec_wer: float | None
    rotated_wer: float | None
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class MusicFigures:
    """Of one instrument: shares of notes that are heard as written."""

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
    """exp of the entropy of each codebook's codes: the number of codes that are used evenly."""


def resynthesize(codec: Codec, pcm_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Through the codec and back. Returns codes_KT and audio of the same length."""
    codes_BKT = codec.encode(torch.from_numpy(pcm_L)[None])
    made_L = codec.decode(codes_BKT)[0, : len(pcm_L)].numpy()
    return codes_BKT[0].numpy(), made_L


def evaluate_codec(codec: Codec, corpus: Corpus, clips_per_source: int = 40) -> CodecFigures:
    """Measure on the test split, at most `clips_per_source` clips of each voice and instrument."""
    sources: dict[str, list[Item]] = defaultdict(list)
    for item in corpus.select(split="test"):
        if item.kind != "commands" and len(sources[item.source]) < clips_per_source:
            sources[item.source].append(item)
    speech: dict[str, SpeechFigures] = {}
    music: dict[str, MusicFigures] = {}
    counts_KV = np.zeros((codec.num_codebooks, codec.codebook_size))
    with Progress(transient=True) as progress:
        for source, items in progress.track(sources.items(), description="codec", total=len(sources)):
            originals = [item.pcm() for item in items]
            codes, made = zip(*(resynthesize(codec, pcm_L) for pcm_L in originals), strict=True)
            for codes_KT in codes:
                for k, codes_T in enumerate(codes_KT):
                    counts_KV[k] += np.bincount(codes_T, minlength=codec.codebook_size)
            if items[0].domain == "speech":
                speech[source] = _speech_figures(items, originals, made, corpus.sample_rate_hz)
            else:
                music[source] = _music_figures(items, originals, made, corpus.sample_rate_hz)
    share_KV = counts_KV / counts_KV.sum(axis=1, keepdims=True)
    entropy_K = -(share_KV * np.log(np.where(share_KV > 0, share_KV, 1))).sum(axis=1)
    return CodecFigures(speech=speech, music=music, perplexity=tuple(round(float(p), 1) for p in np.exp(entropy_K)))


def _speech_figures(
    items: Sequence[Item], originals: Sequence[np.ndarray], made: Sequence[np.ndarray], rate_hz: int
) -> SpeechFigures:
    stoi = [
        intelligibility.short_time_intelligibility(a_L, b_L, rate_hz) for a_L, b_L in zip(originals, made, strict=True)
    ]
    original_wer = codec_wer = rotated_wer = None
    if items[0].kind in ("digits", *FREE_KINDS):
        grammar = intelligibility.digit_grammar() if items[0].kind == "digits" else None
        texts = [_spelled(item.text) for item in items]
        heard, heard_before = (
            [_spelled(text) for text in intelligibility.recognize_all(grammar, clips)] for clips in (made, originals)
        )
        codec_wer = intelligibility.word_error_rate(texts, heard)
        rotated_wer = intelligibility.rotated_word_error_rate(texts, heard)
        original_wer = intelligibility.word_error_rate(texts, heard_before)
    return SpeechFigures(
        stoi=float(np.mean(stoi)),
        original_wer=original_wer,
        codec_wer=codec_wer,
        rotated_wer=rotated_wer,
        num_clips=len(items),
    )


def _spelled(text: str) -> str:
    return " ".join(intelligibility.words_of(text))


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
    table = Table("speech", "STOI", "WER original", "WER codec", "WER rotated", "clips")
    for voice, row in figures.speech.items():
        rates = (
            "–" if rate is None else f"{100 * rate:.1f} %"
            for rate in (row.original_wer, row.codec_wer, row.rotated_wer)
        )
        table.add_row(voice, f"{row.stoi:.3f}", *rates, str(row.num_clips))
    console.print(table)
    table = Table("instrument", "notes original", "notes codec", "up to octave", "rotated", "notes")
    for instrument, line in figures.music.items():
        shares = (line.original_exact, line.codec_exact, line.codec_octave, line.rotated_exact)
        table.add_row(instrument, *(f"{100 * share:.0f} %" for share in shares), str(line.num_notes))
    console.print(table)
    console.print(f"codes used evenly, per codebook: {', '.join(f'{p:.0f}' for p in figures.perplexity)}")


@click.command()
@click.argument("codec", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("corpus", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--clips", default=40, show_default=True, help="Held-out clips of each voice and instrument.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(codec: Path, corpus: Path, clips: int, as_json: bool) -> None:
    """Measure what survives the CODEC folder's codec, on the test clips of a rendered CORPUS."""
    figures = evaluate_codec(load_codec(codec), Corpus.open(corpus), clips)
    if as_json:
        click.echo(json.dumps(asdict(figures), indent=2))
    else:
        _print_tables(figures, Console())


if __name__ == "__main__":
    command()
