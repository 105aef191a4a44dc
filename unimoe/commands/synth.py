"""`unimoe synth`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unimoe_runtime.audio import require_writable, write_audio
from unimoe_runtime.backends import BACKENDS
from unimoe_runtime.synthesis import Limits, Synthesizer
from unimoe_runtime.video import MAX_FRAMES, RATE_HZ


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(["speech", "music"]), default="speech", show_default=True)
@click.option("--text", required=True, help="What to say; for music, notes or a description.")
@click.option(
    "--voice",
    default="",
    help="A voice of the bundle, or a recording to clone; for music, an instrument. [default: the first]",
)
@click.option("--voice-text", default="", help="What the recording given with --voice says.")
@click.option("--video", type=click.Path(path_type=Path), help="A video file to make the music for.")
@click.option("--video-rate", type=float, default=RATE_HZ, show_default=True, help="Frames looked at a second.")
@click.option("--video-frames", type=int, default=MAX_FRAMES, show_default=True, help="Frames looked at, at most.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A .wav, .flac or .ogg file.")
@click.option("--guidance", type=float, help="Guidance scale; 0 turns guidance off. [default: the bundle's]")
@click.option("--temperature", type=float, help="0 takes the likeliest code. [default: the bundle's]")
@click.option("--top-k", type=int, help="Codes a draw chooses from. [default: the bundle's]")
@click.option("--top-p", type=float, help="Share of probability a draw chooses from. [default: the bundle's]")
@click.option("--eos-factor", type=float, help="Factor of the end's logit. [default: the bundle's]")
@click.option("--min-steps", type=int, help="Decode steps before the audio may end. [default: the bundle's]")
@click.option("--max-steps", type=int, help="Decode steps, the delay included. [default: the bundle's]")
@click.option("--max-seconds", type=float, help="Seconds of audio, at most. [default: the bundle's]")
@click.option("--backend", type=click.Choice(BACKENDS), default="onnxruntime", show_default=True)
@click.option("--provider", "providers", multiple=True, help="ONNX Runtime execution provider; may be repeated.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def synth(
    bundle: Path,
    task: str,
    text: str,
    voice: str,
    voice_text: str,
    video: Path | None,
    video_rate: float,
    video_frames: int,
    seed: int,
    output: Path,
    guidance: float | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    eos_factor: float | None,
    min_steps: int | None,
    max_steps: int | None,
    max_seconds: float | None,
    backend: str,
    providers: tuple[str, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Speak a text or play music from a BUNDLE into an audio file."""
    require_writable(output)
    console = Console(stderr=True)
    with Synthesizer.open(bundle, backend=backend, threads=threads, providers=providers or None) as synthesizer:
        wanted = {
            "guidance_scale": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p,
            "eos_factor": eos_factor,
        }  # fmt: skip
        changes = {name: value for name, value in wanted.items() if value is not None}
        sampling = replace(synthesizer.sampling(task), **changes)
        clip = None
        if video is not None:
            clip = synthesizer.read_video(video, rate_hz=video_rate, max_frames=video_frames)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed} steps"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            bar_task = bar.add_task("decoding", total=None)
            result = synthesizer.synthesize(
                task=task, text=text, voice=voice, voice_text=voice_text, video=clip, seed=seed, sampling=sampling,
                limits=Limits(min_steps=min_steps, max_steps=max_steps, max_s=max_seconds),
                progress=lambda done, expected: bar.update(bar_task, completed=done, total=max(expected, done)),
            )  # fmt: skip
    write_audio(output, result.pcm_L, result.sample_rate_hz)
    figures = result.figures()
    if as_json:
        click.echo(json.dumps({"output": str(output), "seed": seed, **figures}, indent=1))
        return
    cut = "" if result.ended else " (cut off at the step limit)"
    click.echo(f"{task}: {figures['caption']}")
    click.echo(
        f"{output}: {figures['audio_s']:.2f} s of audio{cut}, RTF {figures['rtf']:.3f}, "
        f"{figures['experts_per_step']:.1f} experts launched a step, {100 * figures['null_share']:.0f} % null"
    )
