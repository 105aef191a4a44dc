"""Writes a stream to a file, a pipe or the loudspeaker, for `unimoe synth`."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

import click

from unimoe.stopping import Stopped
from unimoe_runtime.audio.sinks import PipeSink, PlaySink, Sink, WavSink
from unimoe_runtime.synthesis.outcome import Outcome
from unimoe_runtime.synthesis.stream import AudioStream


def stream_into(stream: AudioStream, path: Path | None, piped: bool, play: bool) -> tuple[Outcome, int]:
    """Run a stream to its end, or until Ctrl-C, SIGTERM or SIGHUP: a file then holds the audio so far.

    Returns the outcome, and the number of the signal that stopped the stream: 0 if none did.
    """
    stopped = 0
    with stream, ExitStack() as opened:
        sinks: list[Sink] = []
        if path is not None:
            sinks.append(opened.enter_context(WavSink(path, stream.sample_rate_hz)))
        if piped:
            stdout = FileIO(sys.stdout.fileno(), "wb", closefd=False)
            sinks.append(opened.enter_context(PipeSink(stdout)))
        if play:
            sinks.append(opened.enter_context(PlaySink(stream.sample_rate_hz)))
        try:
            for chunk in stream:
                for sink in sinks:
                    sink.write(chunk.pcm_L)
        except KeyboardInterrupt as error:
            if not stream.outcome.num_samples:
                raise
            stopped = error.number if isinstance(error, Stopped) else signal.SIGINT
        for sink in sinks:
            if not stopped or isinstance(sink, WavSink):
                sink.finish()
            if isinstance(sink, PlaySink) and sink.underruns:
                click.echo(f"playing waited {sink.underruns} times: too much else runs here", err=True)
    return stream.outcome, stopped
