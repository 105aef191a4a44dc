"""Streams that share steps give the audio that each gives alone, to the bit: joins, leaves, cancels, mixed sampling."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

STEPS = "unimoe steps"
SHARP = SamplingConfig(guidance_scale=2.0, temperature=0.3, top_k=5, eos_factor=0.8, min_steps=0, max_steps=60)
FREE = SamplingConfig(guidance_scale=0.0, temperature=1.0, top_k=None, top_p=0.8, min_steps=0, max_steps=60)
GREEDY = SamplingConfig(guidance_scale=1.0, temperature=0.0, min_steps=0, max_steps=60)
REQUESTS = [
    SynthesisRequest(text="the cat", seed=1),
    SynthesisRequest(text="The cat. " * 12, voice="ann", seed=2),
    SynthesisRequest(text="flute, 120 bpm: C4 E4 G4", task="music", seed=3),
    SynthesisRequest(text="the cat the cat", seed=4, sampling=SHARP),
    SynthesisRequest(text="piano: G4", task="music", seed=5, sampling=FREE),
    SynthesisRequest(text="cat", seed=6, sampling=GREEDY, limits=Limits(max_steps=40)),
]


@pytest.fixture(scope="module", params=[1, 2], ids=["one lane", "two lanes"])
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    """A synthesizer whose streams share one scheduler or two, however many threads the process's pool has."""
    bundle = open_bundle(write_speaking_bundle(tmp_path_factory.mktemp("speaker")))
    backend = WrappedBackend(OnnxRuntimeBackend(bundle))
    backend.lanes = request.param
    with Synthesizer(bundle, backend) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(speaker: Synthesizer) -> list[np.ndarray]:
    return [samples_of(speaker, request) for request in REQUESTS]


def samples_of(speaker: Synthesizer, request: SynthesisRequest) -> np.ndarray:
    with speaker.stream(request) as stream:
        return np.concatenate([chunk.pcm_L for chunk in stream])


def together(speaker: Synthesizer, requests: list[SynthesisRequest]) -> list[np.ndarray]:
    """Run all requests at once, each in its own thread."""
    found: dict[int, np.ndarray] = {}
    gate = threading.Barrier(len(requests))

    def run(index: int) -> None:
        gate.wait()
        found[index] = samples_of(speaker, requests[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[index] for index in range(len(requests))]


def test_mixed_streams_give_what_they_give_alone(speaker: Synthesizer, alone: list[np.ndarray]) -> None:
    before = speaker.step_statistics
    for found, expected in zip(together(speaker, REQUESTS * 2), alone * 2, strict=True):
        np.testing.assert_array_equal(found, expected)
    after = speaker.step_statistics
    lanes = speaker.backend.lanes
    assert lanes * (after.streams - before.streams) > 2 * (after.steps - before.steps), "they shared steps"
    assert after.open == 0


@dataclass(frozen=True)
class Visit:
    """A request with a delayed start that may leave before its end or read slowly."""

    index: int
    delay_s: float
    most_chunks: int | None
    pause_s: float
    frames: tuple[int, ...]


def visits(seed: int, count: int) -> list[Visit]:
    rng = random.Random(seed)
    return [
        Visit(
            index=rng.randrange(len(REQUESTS)),
            delay_s=rng.random() * 0.3,
            most_chunks=rng.choice([None, None, 1, 3]),
            pause_s=rng.choice([0.0, 0.0, 0.01]),
            frames=rng.choice([(2, 4, 8), (1,), (3, 30)]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_streams_that_come_and_go(speaker: Synthesizer, alone: list[np.ndarray], seed: int) -> None:
    failures: list[str] = []

    def visit(of: Visit) -> None:
        time.sleep(of.delay_s)
        request, pieces = replace(REQUESTS[of.index], schedule=ChunkSchedule(frames=of.frames)), []
        with speaker.stream(request) as stream:
            for chunk in stream:
                pieces.append(chunk.pcm_L)
                time.sleep(of.pause_s)
                if len(pieces) == of.most_chunks:
                    break
        samples = np.concatenate(pieces)
        expected = alone[of.index][: len(samples)]
        if not np.allclose(samples, expected, atol=1e-5) or (of.most_chunks is None and len(samples) < len(expected)):
            failures.append(f"{of}: {np.abs(samples - expected).max()}")
        codes_TK = stream.outcome.codes_TK
        if not np.array_equal(codes_TK, codes[of.index][: len(codes_TK)]):
            failures.append(f"{of}: other codes")

    codes = [speaker.synthesize(request).codes_TK for request in REQUESTS]
    threads = [threading.Thread(target=visit, args=(of,)) for of in visits(seed, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert speaker.step_statistics.open == 0


class Watched(WrappedBackend):
    """Counts the threads that run the codec. `fails`: the first run between two steps raises."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.threads: Counter[str] = Counter()
        self.fails = False

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        name = threading.current_thread().name
        self.threads[name] += 1
        if self.fails and name == STEPS:
            self.fails = False
            raise BackendError("the codec failed")
        return super().run(graph, inputs)


@pytest.fixture(scope="module")
def watched(speaker: Synthesizer) -> Watched:
    return Watched(OnnxRuntimeBackend(speaker.bundle))


@pytest.fixture(scope="module")
def watched_speaker(watched: Watched) -> Iterator[Synthesizer]:
    with Synthesizer(watched.bundle, watched) as opened:
        yield opened


def test_a_chunk_is_decoded_between_steps_while_others_wait_and_by_its_reader_otherwise(
    watched: Watched, watched_speaker: Synthesizer
) -> None:
    samples_of(watched_speaker, REQUESTS[1])
    assert STEPS not in watched.threads
    together(watched_speaker, [REQUESTS[1]] * 4)
    assert watched.threads[STEPS]


def test_a_codecs_error_reaches_its_reader_alone(
    watched: Watched, watched_speaker: Synthesizer, alone: list[np.ndarray]
) -> None:
    errors: list[str] = []
    found: list[np.ndarray] = []

    def read() -> None:
        try:
            found.append(samples_of(watched_speaker, REQUESTS[1]))
        except BackendError as error:
            errors.append(str(error))

    watched.fails = True
    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert errors == ["the codec failed"]
    assert len(found) == 3 and all(np.array_equal(samples, alone[1]) for samples in found)
