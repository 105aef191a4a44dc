"""`unimoe synth`."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import (
    THREADS,
    Command,
    Counts,
    Number,
    Size,
    engine_options,
    json_option,
    write_json,
)
from unimoe.cli.process import tell
from unimoe.cli.progress import progress_bar
from unimoe.cli.say_as import explain
from unimoe.cli.streamed import stream_into
from unimoe.cli.texts import read_text, speech_options, text_options
from unimoe.cli.timestamps import require_format, write_timestamps
from unimoe_runtime.errors import PromptError
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_runtime.synthesis.outcome import Outcome
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_runtime.vision.video import MAX_FRAMES, RATE_HZ
from unimoe_tools.units import duration, size

_PIPE = "-"


def _frames(context: click.Context, parameter: click.Parameter, value: tuple[int, ...] | None) -> ChunkSchedule:
    try:
        return ChunkSchedule() if value is None else ChunkSchedule(frames=value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--task", type=click.Choice(["speech", "music"]), default="speech", show_default=True, help="Speak or play."
)
@click.option("--text", help="What to say, or - to read it from stdin; for music, notes or a description.")
@text_options
@click.option("--explain", "explains", is_flag=True, help="Print words, phonemes, durations and pauses; do not speak.")
@click.option(
    "--voice",
    default="",
    help="A voice of the bundle, or a recording to clone; for music, an instrument. [default: the first]",
)
@click.option("--voice-text", default="", help="What the recording given with --voice says.")
@click.option("--video", type=click.Path(path_type=Path), help="A video file to make the music for.")
@click.option(
    "--video-rate",
    type=Number(min=0, min_open=True),
    default=RATE_HZ,
    show_default=True,
    help="Frames of the video that the model sees each second.",
)
@click.option(
    "--video-frames", type=int, default=MAX_FRAMES, show_default=True, help="Largest number of frames of the video."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same audio."
)
@click.option("-o", "--output", help="A .wav, .flac or .ogg file; - streams raw 16-bit samples to stdout.")
@click.option(
    "--timestamps",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write when each word is spoken: a .json, .srt or .vtt file.",
)
@click.option("--stream", is_flag=True, help="Write the .wav during synthesis; if stopped, it holds the audio so far.")
@click.option("--play", is_flag=True, help="Play during synthesis (needs the extra `play`).")
@click.option(
    "--chunk-frames",
    "schedule",
    type=Counts(),
    callback=_frames,
    help="Frames of each streamed chunk, the last repeated. [default: 2,4,8,16,32]",
)
@click.option(
    "--timeout", type=Number(min=0, min_open=True), help="Stop after this many seconds and keep the audio so far."
)
@click.option("--warm", is_flag=True, help="Load every graph before the request; print the time and memory it takes.")
@click.option(
    "--memory-budget",
    type=Size(),
    help="Memory for loaded experts, such as 300MB: same audio, slower. [default: no limit]",
)
@click.option("--guidance", type=Number(0, 1000), help="Guidance scale; 0 turns guidance off. [default: the bundle's]")
@click.option("--temperature", type=Number(0, 1000), help="0 takes the likeliest code. [default: the bundle's]")
@click.option("--top-k", type=int, help="Number of codes that a draw chooses from. [default: the bundle's]")
@click.option(
    "--top-p",
    type=Number(0, 1, min_open=True),
    help="Share of probability a draw chooses from. [default: the bundle's]",
)
@click.option(
    "--eos-factor",
    type=Number(0, 1000, min_open=True),
    help="Factor on the logit that ends the audio. [default: the bundle's]",
)
@click.option("--min-steps", type=int, help="Least decode steps before the audio may end. [default: the bundle's]")
@click.option("--max-steps", type=int, help="Most decode steps, including the delay. [default: the bundle's]")
@click.option(
    "--max-seconds", type=Number(min=0, min_open=True), help="Longest audio, in seconds. [default: the bundle's]"
)
@engine_options
@click.option("--threads", type=THREADS, help="CPU threads. [default: all cores]")
@json_option
def synth(
    bundle: Path,
    task: str,
    text: str | None,
    text_file: Path | None,
    speed: float,
    lexicon: Path | None,
    explains: bool,
    voice: str,
    voice_text: str,
    video: Path | None,
    video_rate: float,
    video_frames: int,
    seed: int,
    output: str | None,
    timestamps: Path | None,
    stream: bool,
    play: bool,
    schedule: ChunkSchedule,
    timeout: float | None,
    warm: bool,
    memory_budget: int | None,
    guidance: float | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    eos_factor: float | None,
    min_steps: int | None,
    max_steps: int | None,
    max_seconds: float | None,
    backend: str,
    target: str | None,
    providers: tuple[str, ...] | None,
    threads: int | None,
    json_to: str | None,
) -> None:
    """Speak a text or play music from a BUNDLE into an audio file, a pipe or the loudspeaker."""
    if timestamps is not None:
        if task != "speech":
            raise click.UsageError("--timestamps are times of spoken words, and music has none")
        if explains:
            raise click.UsageError("--explain does not speak, so there are no times to write: leave out --timestamps")
        require_format(timestamps)
    text, how = read_text(text, text_file), speech_options(speed, lexicon)
    if explains:
        explain(bundle, text, voice, how, json_to)
        return
    if output is None and not play:
        raise click.UsageError("say where the audio goes: -o FILE, -o - for stdout, or --play")
    piped = output == _PIPE
    path = None if output is None or piped else Path(output)
    whole = not (stream or play or piped)
    if path is not None and whole:
        from unimoe_runtime.audio.files import require_writable

        require_writable(path)
    options = {"backend": backend, "target": target, "threads": threads, "providers": providers}
    with _open(bundle, warm, **options, memory_budget_bytes=memory_budget) as synthesizer:
        if synthesizer.engine_warning is not None:
            tell(synthesizer.engine_warning)
        if timestamps is not None and not isinstance(synthesizer.frontend, TimelineFrontEnd):
            raise PromptError(
                "this bundle's model reads text by itself, and it is not known when it speaks a word: "
                "leave out --timestamps"
            )
        wanted = {
            "guidance_scale": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p,
            "eos_factor": eos_factor,
        }  # fmt: skip
        changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        clip = None if video is None else synthesizer.read_video(video, rate_hz=video_rate, max_frames=video_frames)
        request = SynthesisRequest(
            task=task, text=text, voice=voice, voice_text=voice_text, video=clip, seed=seed, timeout_s=timeout,
            sampling=replace(synthesizer.sampling(task), **changes), schedule=schedule,
            limits=Limits(min_steps=min_steps, max_steps=max_steps, max_s=max_seconds),
            speed=how.speed, lexicon=how.lexicon,
        )  # fmt: skip
        stopped = 0
        if path is not None and whole:
            outcome = _write_whole(synthesizer, request, path)
        else:
            outcome, stopped = stream_into(synthesizer.stream(request), path, piped, play)
        residency = synthesizer.residency
    if timestamps is not None:
        write_timestamps(timestamps, outcome.words)
    figures = outcome.figures() | ({} if residency is None else {"experts_in_memory": residency.figures()})
    if not write_json({"output": output, "seed": seed, **figures}, json_to, err=piped):
        _print(outcome, residency, stopped, output or "played", task, err=piped)
    if stopped:
        raise SystemExit(128 + stopped)  # the exit code that a shell gives a command that a signal ended


def _open(bundle: Path, warm: bool, **options: Any) -> Synthesizer:
    if not warm:
        return Synthesizer.open(bundle, **options)
    from unimoe_tools.profiling.machine import read_memory

    started, before = time.perf_counter(), read_memory()
    synthesizer = Synthesizer.open(bundle, warm=True, **options)
    taken_s, after = time.perf_counter() - started, read_memory()
    cost = "" if before is None or after is None else f", {size(after.resident - before.resident)}"
    click.echo(f"warm: every graph loaded in {duration(taken_s)}{cost}", err=True)
    return synthesizer


def _write_whole(synthesizer: Synthesizer, request: SynthesisRequest, path: Path) -> Outcome:
    """Synthesize everything, with a progress bar, then write the file."""
    from unimoe_runtime.audio.files import write_audio

    with progress_bar("decoding") as progress:
        result = synthesizer.synthesize(
            request, progress=lambda done, expected: progress("decoding", done, max(expected, done))
        )
    write_audio(path, result.pcm_L, result.sample_rate_hz)
    return result


def _print(
    outcome: Outcome, residency: ExpertCacheStats | None, stopped: int, output: str, task: str, *, err: bool
) -> None:
    figures = outcome.figures()
    limit = "time" if outcome.timed_out else "step"
    how = "stopped by hand" if stopped == signal.SIGINT else "stopped by a signal"
    cut = "" if outcome.ended else f" ({how})" if stopped else f" (cut off at the {limit} limit)"
    click.echo(f"{task}: {figures['caption']}", err=err)
    for warning in outcome.warnings:
        tell(warning)
    click.echo(
        f"{output}: {figures['audio_s']:.2f} s of audio{cut}, first after "
        f"{duration(figures['first_audio_s'])}, RTF {figures['rtf']:.3f}, "
        f"{figures['experts_per_step']:.1f} experts launched a step, {100 * figures['null_share']:.0f} % null",
        err=err,
    )
    if residency is not None:
        slower = outcome.compute_s / max(outcome.compute_s - residency.stall_s, 1e-9)
        click.echo(
            f"experts in memory: at most {size(residency.peak_bytes)} of {size(residency.budget_bytes)}, "
            f"{100 * residency.hit_rate:.0f} % of {residency.uses} found there; waited {duration(residency.stall_s)} "
            f"for the others, at least {slower:.1f} times as slow; "
            f"95 of 100 steps need {size(residency.step_bytes_p95)}",
            err=err,
        )
