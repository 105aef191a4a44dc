"""Streams against the whole audio: every schedule, every codec, concurrent streams."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.runtime.synthesis.streams import REQUEST, joined
from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.errors import BundleError, ConfigError, PromptError
from unimoe_runtime.synthesis.chunks import WHOLE, Chunk, ChunkSchedule
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.stream import AudioStream
from unimoe_runtime.synthesis.synthesizer import Synthesis, Synthesizer

schedules = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple).map(lambda f: ChunkSchedule(frames=f))


@settings(max_examples=12, deadline=None)
@given(schedule=schedules)
def test_any_schedule_gives_the_whole(synthesizer: Synthesizer, whole: Synthesis, schedule: ChunkSchedule) -> None:
    stream = synthesizer.stream(SynthesisRequest(**REQUEST, schedule=schedule))
    chunks = list(stream)
    np.testing.assert_allclose(joined(chunks), whole.pcm_L, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(stream.outcome.codes_TK, whole.codes_TK)
    assert [chunk.first_frame for chunk in chunks] == [0, *np.cumsum([chunk.num_frames for chunk in chunks])[:-1]]
    assert stream.outcome.num_samples == len(whole.pcm_L)
    assert stream.outcome.ended == whole.ended
    expected, sizes = len(whole.codes_TK), schedule.sizes()
    codec = synthesizer.codec
    for index, chunk in enumerate(chunks[:-1]):
        size = next(sizes)
        assert chunk.num_frames == (max(size, codec.min_first_frames) if index == 0 else size)
        expected -= chunk.num_frames
    assert chunks[-1].num_frames == expected


def test_the_first_chunk_comes_with_its_last_frame(synthesizer: Synthesizer) -> None:
    """The first chunk comes after the delay, its frames and the codec's lookahead, and not a step later."""
    steps: list[int] = []
    codec = synthesizer.codec
    with synthesizer.stream(SynthesisRequest(**REQUEST), progress=lambda done, expected: steps.append(done)) as stream:
        first = next(stream)
    assert first.num_frames == max(2, codec.min_first_frames)
    max_delay = max(synthesizer.bundle.model.delay_pattern)
    assert steps[-1] == stream.first_chunk_steps == max_delay + first.num_frames + codec.lookahead_frames


def test_no_step_is_made_unless_a_chunk_is_asked_for(speaker: Synthesizer) -> None:
    steps: list[int] = []
    with speaker.stream(SynthesisRequest(**REQUEST), progress=lambda done, expected: steps.append(done)) as stream:
        assert not steps
        for _ in range(3):
            next(stream)
            made = len(steps)
            time.sleep(0.05)
            assert len(steps) <= made + 1, "at most the step that was under way"


def test_the_next_chunk_is_made_ahead_for_a_reader_that_wants_it(speaker: Synthesizer) -> None:
    """Not beside the first chunk, and no more than one chunk."""
    request = SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(2, 5)))
    with speaker.stream(request, ahead=True) as stream:
        for made in (2, 2 + 5 + 5):
            next(stream)
            time.sleep(0.2)
            assert len(stream.outcome.codes_TK) == made


def test_a_stream_rides_along_while_its_reader_is_busy(speaker: Synthesizer) -> None:
    """The steps of another stream make the frames of its next chunk, and none beyond."""
    request = SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(2, 5)))
    alone = joined(list(speaker.stream(request)))
    with speaker.stream(request) as stream:
        chunks = [next(stream)]
        assert len(stream.outcome.codes_TK) == 2
        joined(list(speaker.stream(SynthesisRequest(**REQUEST))))
        assert len(stream.outcome.codes_TK) == 2 + 5
        chunks += list(stream)
    np.testing.assert_array_equal(joined(chunks), alone)


def test_streams_side_by_side_give_what_they_give_alone(speaker: Synthesizer) -> None:
    requests = [{**REQUEST, "seed": seed, "text": text} for seed in (1, 2) for text in ("flute: C4 E4", "piano: G4")]
    alone = [speaker.synthesize(SynthesisRequest(**request)) for request in requests]
    found: dict[int, np.ndarray] = {}

    def run(index: int) -> None:
        found[index] = joined(list(speaker.stream(SynthesisRequest(**requests[index]))))

    workers = [threading.Thread(target=run, args=(index,)) for index in range(len(requests))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for index, expected in enumerate(alone):
        np.testing.assert_allclose(found[index], expected.pcm_L, rtol=0, atol=1e-5)
    interleaved = [
        speaker.stream(SynthesisRequest(**request, schedule=ChunkSchedule(frames=(3,)))) for request in requests
    ]
    pieces: list[list[Chunk]] = [[] for _ in requests]
    while any([take(stream, into) for stream, into in zip(interleaved, pieces, strict=True)]):
        pass
    for chunks, expected in zip(pieces, alone, strict=True):
        np.testing.assert_allclose(joined(chunks), expected.pcm_L, rtol=0, atol=1e-5)


def test_what_is_wrong_is_said_before_the_stream_begins(speaker: Synthesizer) -> None:
    with pytest.raises(PromptError, match="the text is empty"):
        speaker.stream(SynthesisRequest(task="speech", text=""))
    with pytest.raises(PromptError, match="no task"):
        speaker.stream(SynthesisRequest(task="dance", text="x"))
    with pytest.raises(ConfigError, match="at least one size"):
        ChunkSchedule(frames=())
    with pytest.raises(PromptError, match="before its first frame"):
        list(speaker.stream(SynthesisRequest(**REQUEST, limits=Limits(min_steps=0, max_steps=1))))


def test_a_damaged_file_is_found_whoever_loads_it(tmp_path: Path) -> None:
    """Loading in the background does not report it; the request that needs the file does. With `warm`, opening does."""
    path = write_speaking_bundle(tmp_path)
    weights = path / "codec_decoder.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with Synthesizer.open(path) as opened, pytest.raises(BundleError, match=r"codec_decoder\.safetensors: damaged"):
        list(opened.stream(SynthesisRequest(**REQUEST)))
    with pytest.raises(BundleError, match=r"codec_decoder\.safetensors: damaged"):
        Synthesizer.open(path, warm=True)


def test_warm_has_every_graph(speaker: Synthesizer) -> None:
    with Synthesizer.open(speaker.bundle.path, warm=True) as warm:
        loaded = warm.backend.loaded()  # type: ignore[attr-defined]
        assert set(warm.bundle.graphs) - set(loaded) == {"codec_encoder"}


def test_whole_is_one_chunk(speaker: Synthesizer) -> None:
    assert len(list(speaker.stream(SynthesisRequest(**REQUEST, schedule=WHOLE)))) == 1


def take(stream: AudioStream, into: list[Chunk]) -> bool:
    chunk = next(stream, None)
    if chunk is not None:
        into.append(chunk)
    return chunk is not None


def test_pcm16_is_what_a_file_holds(speaker: Synthesizer, whole: Synthesis) -> None:
    chunks = list(speaker.stream(SynthesisRequest(**REQUEST)))
    samples_L = np.frombuffer(b"".join(chunk.pcm16() for chunk in chunks), "<i2")
    np.testing.assert_array_equal(samples_L, to_int16(joined(chunks)))


def test_a_stream_in_an_event_loop(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(SynthesisRequest(**REQUEST))
    request = SynthesisRequest(**REQUEST, schedule=ChunkSchedule(frames=(2, 3)))

    async def read(most_chunks: int | None) -> list[Chunk]:
        chunks: list[Chunk] = []
        async for chunk in speaker.astream(request):
            chunks.append(chunk)
            if len(chunks) == most_chunks:
                break
        return chunks

    async def read_all() -> list[list[Chunk]]:
        return list(await asyncio.gather(read(None), read(None), read(2)))

    first, second, beginning = asyncio.run(read_all())
    np.testing.assert_array_equal(joined(first), joined(second))
    np.testing.assert_allclose(joined(first), whole.pcm_L, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(joined(beginning), joined(first[:2]))
    with pytest.raises(PromptError, match="the text is empty"):
        asyncio.run(anext(speaker.astream(SynthesisRequest(text=""))))  # type: ignore[arg-type]


def test_what_the_front_end_cannot_do_is_refused(speaker: Synthesizer) -> None:
    with pytest.raises(PromptError, match="'Q' is not a phoneme of this voice"):
        speaker.stream(SynthesisRequest(text="the cat", lexicon={"cat": "K Q T"}))
    with pytest.raises(PromptError, match="voice"):
        speaker.stream(SynthesisRequest(text="the cat", voice="nobody"))


def test_a_listener_hears_what_the_router_picks(speaker: Synthesizer) -> None:
    """The listener gets every layer of every decode step, as the statistics count them; the audio does not change."""
    told: list[tuple[int, int, int]] = []
    num_routed = speaker.bundle.model.num_routed_experts

    def routing(layer: int, weights_NE: NDArray[np.float32]) -> None:
        picked_NE = weights_NE > 0
        told.append((layer, int(picked_NE[:, :num_routed].sum()), int(picked_NE[:, num_routed:].sum())))

    with speaker.stream(SynthesisRequest(**REQUEST), routing=routing) as stream:
        pcm_L = joined(list(stream))
    statistics, num_layers = stream.outcome.routing, speaker.bundle.model.num_layers
    assert [layer for layer, _, _ in told] == list(range(num_layers)) * statistics.steps
    assert sum(routed for _, routed, _ in told) == statistics.routed_picks
    assert sum(null for _, _, null in told) == statistics.null_picks
    np.testing.assert_array_equal(pcm_L, joined(list(speaker.stream(SynthesisRequest(**REQUEST)))))


def test_words_have_times_in_the_audio(timed_speaker: Synthesizer) -> None:
    """Sentences that are spoken in sequence follow each other in time."""
    text = "the cat. hello hello hello hello hello hello hello hello hello. the cat"
    made = timed_speaker.synthesize(SynthesisRequest(text=text, seed=1))
    assert [word.word for word in made.words] == text.replace(".", "").split()
    times = [time_s for word in made.words for time_s in (word.start_s, word.end_s)]
    assert times == sorted(times) and times[0] > 0


def test_words_come_after_the_silence_before_them(timed_speaker: Synthesizer) -> None:
    plain, late = (
        timed_speaker.synthesize(SynthesisRequest(text=text, seed=1)).words
        for text in ("the cat", "[[pause 2s]] the cat")
    )
    assert [word.start_s for word in late] == pytest.approx([word.start_s + 2.0 for word in plain], abs=0.02)


@pytest.mark.parametrize("max_s", [0.3, 0.7, 1.5, 4.0])
def test_word_times_end_with_the_audio(timed_speaker: Synthesizer, max_s: float) -> None:
    """No word lies beyond the audio that a limit cuts off, or beyond the end of its sentence's audio."""
    text = "hello hello hello. the cat. hello hello hello hello hello hello. the cat"
    made = timed_speaker.synthesize(SynthesisRequest(text=text, seed=2, limits=Limits(max_s=max_s)))
    spoken = [(word.start_s, word.end_s) for word in made.words]
    sounds = [(one.start_s, one.end_s) for word in made.words for one in word.phonemes]
    for times in (spoken, sounds):
        flat = [time_s for pair in times for time_s in pair]
        assert flat == sorted(flat) and all(start_s < end_s for start_s, end_s in times)
        assert not flat or flat[-1] <= made.audio_s + 1e-9


def test_a_chunk_has_the_words_that_begin_in_it(timed_speaker: Synthesizer) -> None:
    request = SynthesisRequest(text="the cat. hello hello hello. the cat", seed=1)
    with timed_speaker.stream(request) as stream:
        chunks = list(stream)
    told = [word for chunk in chunks for word in chunk.words]
    assert [(word.word, word.start_s) for word in told] == [(word.word, word.start_s) for word in stream.words]
    for word in told:
        assert [each.phoneme for each in word.phonemes] and word.phonemes[0].start_s == word.start_s
        assert word.phonemes[-1].end_s == word.end_s
