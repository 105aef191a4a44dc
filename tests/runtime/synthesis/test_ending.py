"""Early ends of streams: closed, cancelled, out of time, from any thread."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.synthesis.streams import REQUEST, joined
from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.errors import BackendError, ClosedError
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.stream import AudioStream
from unimoe_runtime.synthesis.synthesizer import Synthesizer


def test_a_closed_stream_has_given_a_beginning_and_holds_nothing(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(SynthesisRequest(**REQUEST))
    threads = threading.active_count()
    for taken in range(4):
        with speaker.stream(SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(1, 2)))) as stream:
            pcm_L = joined([next(stream) for _ in range(taken)])
        np.testing.assert_allclose(pcm_L, whole.pcm_L[: len(pcm_L)], rtol=0, atol=1e-5)
        assert not stream.outcome.ended and stream.outcome.num_samples == len(pcm_L)
        with pytest.raises(ClosedError, match="closed by its reader"):
            next(stream)
        assert speaker.step_statistics.open == 0
    assert threading.active_count() <= threads, "the background loader may have ended meanwhile"


def test_a_stream_has_no_words_before_its_text_is_read(speaker: Synthesizer) -> None:
    with speaker.stream(SynthesisRequest(**REQUEST)) as stream:
        assert stream.words == ()
    assert stream.outcome.words == ()


def test_cancelled_from_another_thread(speaker: Synthesizer) -> None:
    stream = speaker.stream(SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(1,))))
    next(stream)
    threading.Thread(target=stream.cancel).start()
    time.sleep(0.05)
    assert len(list(stream)) <= 1, "a chunk that was in work at most"
    assert not stream.outcome.ended and not stream.outcome.timed_out


@pytest.mark.slow
def test_a_time_limit_ends_with_the_frames_there_are(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(SynthesisRequest(**REQUEST))
    request = SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(4,)), timeout_s=5)
    stream = speaker.stream(request, progress=lambda done, expected: time.sleep(5 * (done == 15)))
    chunks = list(stream)
    outcome = stream.outcome
    assert outcome.timed_out and not outcome.ended
    assert 5 <= len(outcome.codes_TK) < len(whole.codes_TK)
    certain = outcome.num_samples - speaker.codec.hop_samples  # the last frame fades out
    np.testing.assert_allclose(joined(chunks)[:certain], whole.pcm_L[:certain], rtol=0, atol=1e-5)
    assert outcome.num_samples == len(outcome.codes_TK) * speaker.codec.hop_samples
    with pytest.raises(BackendError, match="no audio within"):
        speaker.synthesize(SynthesisRequest(**REQUEST, timeout_s=1e-6))


def test_closing_from_any_thread_ends_what_is_read(tmp_path: Path) -> None:
    """Whenever the synthesizer is closed, readers in their threads get the end or our error and nothing else."""
    path = write_speaking_bundle(tmp_path)
    for pause_s in (0.0, 0.003, 0.02):
        opened = Synthesizer.open(path)
        streams = [opened.stream(SynthesisRequest(**REQUEST | {"seed": seed})) for seed in range(3)]
        failures: list[BaseException] = []

        def read(stream: AudioStream, failures: list[BaseException] = failures) -> None:
            try:
                for _ in stream:
                    pass
            except ClosedError:
                pass
            except BaseException as error:
                failures.append(error)

        readers = [threading.Thread(target=read, args=(stream,)) for stream in streams]
        for reader in readers:
            reader.start()
        time.sleep(pause_s)
        closers = [threading.Thread(target=opened.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in (*closers, *readers):
            thread.join(20)
            assert not thread.is_alive()
        assert not failures
        with pytest.raises(ClosedError, match="the synthesizer is closed"):
            opened.synthesize(SynthesisRequest(**REQUEST))
        opened.close()


def test_a_stream_that_was_not_read_says_that_its_synthesizer_is_gone(tmp_path: Path) -> None:
    with Synthesizer.open(write_speaking_bundle(tmp_path)) as opened:
        begun, fresh, ended = (opened.stream(SynthesisRequest(**REQUEST)) for _ in range(3))
        next(begun)
        list(ended)
    for stream in (begun, fresh):
        with pytest.raises(ClosedError, match="its synthesizer was closed"):
            next(stream)
        stream.close()
    assert list(ended) == []


def test_closing_from_within_the_progress_callback(speaker: Synthesizer) -> None:
    stream = speaker.stream(SynthesisRequest(**REQUEST), progress=lambda done, expected: stream.close())
    assert list(stream) == []
