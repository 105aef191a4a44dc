"""Streams in two lanes: where they are put, and the end of both."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.runtime.synthesis.streams import REQUEST
from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import ClosedError
from unimoe_runtime.hardware.system import available_cores
from unimoe_runtime.synthesis.chunks import Chunk, ChunkSchedule
from unimoe_runtime.synthesis.decoding import Decoding
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.scheduler import StepScheduler
from unimoe_runtime.synthesis.synthesizer import Synthesizer

STREAMED = SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(1,)))


@pytest.fixture
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    bundle = open_bundle(write_speaking_bundle(tmp_path_factory.mktemp("speaker")))
    backend = WrappedBackend(OnnxRuntimeBackend(bundle))
    backend.lanes = 2
    with Synthesizer(bundle, backend) as opened:
        yield opened


def test_a_stream_goes_where_the_fewest_are(speaker: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes: list[int] = []
    add = StepScheduler.add

    def noted(scheduler: StepScheduler, stream: Decoding) -> None:
        lanes.append(stream.lane)
        add(scheduler, stream)

    monkeypatch.setattr(StepScheduler, "add", noted)
    with ExitStack() as first, ExitStack() as others:
        next(first.enter_context(speaker.stream(STREAMED)))
        for _ in range(3):
            next(others.enter_context(speaker.stream(STREAMED)))
        first.close()
        next(others.enter_context(speaker.stream(STREAMED)))
        assert lanes == [0, 1, 0, 1, 0]
        assert speaker.step_statistics.open == 4
    assert speaker.step_statistics.open == 0


def test_closing_from_a_callback_ends_the_streams_and_threads_of_both_lanes(speaker: Synthesizer) -> None:
    def close(done: int, expected: int) -> None:
        if done == 5:
            speaker.close()

    with ExitStack() as streams:
        other = streams.enter_context(speaker.stream(STREAMED))
        next(other)
        closing = streams.enter_context(speaker.stream(STREAMED, progress=close))
        chunks: list[Chunk] = []
        with suppress(ClosedError):  # where the reader comes back after the end, and not before
            chunks += closing
        assert len(chunks) < 5, "the frames there were"
        with pytest.raises(ClosedError, match="synthesizer was closed"):
            next(other)
    for thread in threading.enumerate():
        if thread.name == "unimoe steps":
            thread.join(10)
            assert not thread.is_alive()


def test_a_small_model_has_a_lane_for_each_of_two_cores_unless_threads_are_given(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = write_speaking_bundle(tmp_path_factory.mktemp("speaker"))
    code = (
        "import sys\n"
        "from unimoe_runtime import Synthesizer\n"
        "for options in ({}, {'threads': 1}, {'memory_budget_bytes': 1 << 30}, {}):\n"
        "    with Synthesizer.open(sys.argv[1], **options) as speaker:\n"
        "        print(speaker.backend.lanes)\n"
    )
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    most = str(min(2, available_cores()))
    assert found.stdout.split() == [most, "1", "1", most]
