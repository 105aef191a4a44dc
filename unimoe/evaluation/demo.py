"""Figures of the demo model on held-out texts: is it understood, is it the right voice, are the notes right.

The same measures are taken of the original clips of the same texts, so that one sees what the ear costs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from unimoe.codec.base import load_codec
from unimoe.data.corpus import Corpus, Item
from unimoe.evaluation import intelligibility
from unimoe.evaluation.pitch import NO_NOTES, score_notes
from unimoe.evaluation.voices import VoiceRecognizer
from unimoe.training.examples import request
from unimoe_runtime.checkpoint import open_checkpoint
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.frontend import open_frontend

Synthesize = Callable[[str, str, str, int], np.ndarray]
"""(task, text, voice, seed) -> pcm_L float32 at the corpus rate."""

_VOICE_CLIPS = 60


@contextmanager
def open_synthesizer(path: Path, changes: dict[str, Any]) -> Iterator[Synthesize]:
    """Synthesis by a bundle's graphs, or by the torch model of a checkpoint. `changes` to the sampling defaults."""
    if (path / "manifest.json").exists():
        from unimoe_runtime.synthesis import Synthesizer

        with Synthesizer.open(path) as opened:
            defaults = opened.bundle.sampling

            def from_bundle(task: str, text: str, voice: str, seed: int) -> np.ndarray:
                sampling = replace(defaults[task], **changes)
                return opened.synthesize(task=task, text=text, voice=voice, seed=seed, sampling=sampling).pcm_L

            yield from_bundle
    else:
        yield torch_synthesizer(path, changes)


def torch_synthesizer(path: Path, changes: dict[str, Any]) -> Synthesize:
    """Synthesis by the torch model of a checkpoint folder. Raises CheckpointError where it has no codec."""
    from unimoe.checkpoint import load_model
    from unimoe.generate import TorchLanguageModel, collect_frames, generate

    checkpoint = open_checkpoint(path)
    if checkpoint.codec_dir is None or checkpoint.frontend_dir is None:
        raise CheckpointError(f"{path}: has no codec or no front end, so it cannot be heard")
    frontend, codec = open_frontend(checkpoint.frontend_dir), load_codec(checkpoint.codec_dir)
    model = TorchLanguageModel(load_model(checkpoint))
    max_delay = max(checkpoint.model.delay_pattern)

    def synthesize(task: str, text: str, voice: str, seed: int) -> np.ndarray:
        prepared = frontend.build_prompt(task, text, voice)
        sampling: SamplingConfig = prepared.limit(replace(checkpoint.sampling[task], **changes), max_delay)
        frames_TK = collect_frames(generate(model, prepared.prompt, checkpoint.model, sampling, seed=seed))[0]
        with torch.inference_mode():
            return codec.decode(torch.from_numpy(frames_TK.T.copy())[None])[0].numpy()

    return synthesize


def held_out(corpus: Corpus, clips_per_source: int) -> list[Item]:
    """Test clips, the same number of each kind and voice or instrument."""
    found: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in corpus.select(split="test"):
        if len(found[item.kind, item.source]) < clips_per_source:
            found[item.kind, item.source].append(item)
    return [item for items in found.values() for item in items]


def word_grammar(texts: Sequence[str]) -> str:
    """A JSGF grammar of any string of the words of `texts`, for phrases that no grammar describes."""
    words = sorted({word for text in texts for word in text.split()})
    return f"#JSGF V1.0; grammar words; public <text> = ( {' | '.join(words)} )+;"


def speech_figures(items: Sequence[Item], clips: Sequence[np.ndarray], grammar: str) -> dict[str, float]:
    """Word error rate, and what references shifted by one clip would score."""
    texts = [item.text.replace(",", "") for item in items]
    heard = intelligibility.recognize_all(grammar, clips)
    return {
        "wer": intelligibility.word_error_rate(texts, heard),
        "rotated_wer": intelligibility.rotated_word_error_rate(texts, heard),
        "clips": len(texts),
    }


def music_figures(items: Sequence[Item], clips: Sequence[np.ndarray], sample_rate_hz: int) -> dict[str, float]:
    """Shares of notes heard as written, up to octaves, and with the melody of the next clip as reference."""
    right, rotated = NO_NOTES, NO_NOTES
    others = [*items[1:], *items[:1]]
    for item, other, pcm_L in zip(items, others, clips, strict=True):
        right += score_notes(pcm_L, sample_rate_hz, item.notes)
        rotated += score_notes(pcm_L, sample_rate_hz, other.notes)
    return {
        "notes": right.exact_share,
        "notes_up_to_octave": right.octave_share,
        "rotated_notes": rotated.exact_share,
        "clips": len(items),
    }


def evaluate_demo(
    synthesize: Synthesize, corpus: Corpus, *, clips_per_source: int = 20, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by kind, then by voice or instrument ("all": of all of them); "original_…" are of the corpus's clips."""
    items = held_out(corpus, clips_per_source)
    with Progress(transient=True) as progress:
        made = [
            synthesize(*request(item), seed + index)
            for index, item in enumerate(progress.track(items, description="synthesis"))
        ]
    recognizer = _learn_voices(corpus)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in dict.fromkeys(item.kind for item in items):
        of_kind = [(item, pcm_L) for item, pcm_L in zip(items, made, strict=True) if item.kind == kind]
        grammar = _grammar(kind, [item.text for item, _ in of_kind])
        sources = list(dict.fromkeys(item.voice or item.instrument for item, _ in of_kind))
        found[kind] = {}
        for source in [*sources, "all"]:
            chosen = [(item, pcm_L) for item, pcm_L in of_kind if source in ("all", item.voice, item.instrument)]
            these, clips = [item for item, _ in chosen], [pcm_L for _, pcm_L in chosen]
            originals = [item.pcm() for item in these]
            if kind == "melody":
                figures = music_figures(these, clips, corpus.sample_rate_hz)
                figures["original_notes"] = music_figures(these, originals, corpus.sample_rate_hz)["notes"]
            else:
                figures = speech_figures(these, clips, grammar)
                figures["original_wer"] = speech_figures(these, originals, grammar)["wer"]
                figures["voice_right"] = _voice_right(recognizer, these, clips)
                figures["original_voice_right"] = _voice_right(recognizer, these, originals)
            off = [abs(len(pcm_L) / item.length - 1) for item, pcm_L in chosen]
            figures["length_off"] = float(np.mean(off))
            found[kind][source] = figures
    return found


def _grammar(kind: str, texts: Sequence[str]) -> str:
    match kind:
        case "digits":
            return intelligibility.digit_grammar()
        case "commands":
            return intelligibility.command_grammar()
        case _:
            return word_grammar([text.replace(",", "") for text in texts])


def _learn_voices(corpus: Corpus) -> VoiceRecognizer:
    clips: dict[str, list[np.ndarray]] = defaultdict(list)
    for item in corpus.select(split="train", kind="digits"):
        if len(clips[item.voice]) < _VOICE_CLIPS and item.length > corpus.sample_rate_hz:
            clips[item.voice].append(item.pcm())
    return VoiceRecognizer.learn(clips, corpus.sample_rate_hz)


def _voice_right(recognizer: VoiceRecognizer, items: Sequence[Item], clips: Sequence[np.ndarray]) -> float:
    return sum(recognizer(pcm_L) == item.voice for item, pcm_L in zip(items, clips, strict=True)) / max(1, len(items))


def print_figures(found: dict[str, dict[str, dict[str, float]]], console: Console) -> None:
    """A table for each kind; shares in percent."""
    for kind, sources in found.items():
        table = Table(title=kind)
        table.add_column("source")
        for name in next(iter(sources.values())):
            table.add_column(name.replace("_", " ") + ("" if name == "clips" else " %"), justify="right")
        for source, figures in sources.items():
            cells = [str(value) if name == "clips" else f"{100 * value:.1f}" for name, value in figures.items()]
            table.add_row(source, *cells)
        console.print(table)


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("corpus", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--clips", default=20, show_default=True, help="Clips of each kind and voice or instrument.")
@click.option("--seed", default=0, show_default=True)
@click.option("--guidance", type=float, help="Guidance scale. [default: the model's]")
@click.option("--temperature", type=float, help="[default: the model's]")
@click.option("--top-k", type=int, help="[default: the model's]")
@click.option("--threads", default=1, show_default=True, help="CPU threads of the torch model.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here as well.")
def command(
    model: Path,
    corpus: Path,
    clips: int,
    seed: int,
    guidance: float | None,
    temperature: float | None,
    top_k: int | None,
    threads: int,
    json_path: Path | None,
) -> None:
    """Evaluate MODEL, a checkpoint or a bundle, on the held-out texts of a rendered CORPUS."""
    torch.set_num_threads(threads)
    wanted = {"guidance_scale": guidance, "temperature": temperature, "top_k": top_k}
    changes = {name: value for name, value in wanted.items() if value is not None}
    with open_synthesizer(model, changes) as synthesize:
        found = evaluate_demo(synthesize, Corpus.open(corpus), clips_per_source=clips, seed=seed)
    print_figures(found, Console(width=160))
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
