"""Common parts of prompts are read once: the result equals that of a new reading, and memory is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend, CachedPositions, Forward
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.lru_cache import LRUCache

PLACEHOLDER = 19


@pytest.fixture(scope="module", params=["numpy", "onnxruntime"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    folder = tmp_path_factory.mktemp("prefix")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "bundle")
    return open_backend(request.param, open_bundle(folder / "bundle"))


class Counting(WrappedBackend):
    """Records the rows of each forward that it starts."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.started: list[int] = []

    def start(self, num_rows: int) -> Forward:
        self.started.append(num_rows)
        return super().start(num_rows)


def prompt_of(shared: list[int], texts: list[list[int]], codec_RK: np.ndarray | None = None) -> Prompt:
    return Prompt.from_rows(
        [[*shared, *text] for text in texts],
        codec_ids_PK=None if codec_RK is None else np.tile(codec_RK, (len(texts), 1)),
        placeholder_id=None if codec_RK is None else PLACEHOLDER,
        paired=len(texts) % 2 == 0,
        num_shared=len(shared),
    )


def logits_after(model: BundleModel, prompt: Prompt, num_steps: int = 3) -> np.ndarray:
    model.prefill(prompt)
    codes_BK = np.random.default_rng(0).integers(8, size=(num_steps, prompt.num_rows, 2))
    return np.stack([model.step(codes, prompt.first_position_B + index) for index, codes in enumerate(codes_BK)])


VOICE = np.random.default_rng(1).integers(8, size=(4, 2))


@pytest.mark.parametrize("texts", [[[7], [8, 9, 10, 11]], [[5, 6, 7, 8, 9], [4]], [[3]], [[1, 2], [3, 4]]])
@pytest.mark.parametrize("with_voice", [False, True])
def test_kept_positions_give_the_logits_of_a_fresh_prefill(
    backend: Backend, texts: list[list[int]], with_voice: bool
) -> None:
    shared = [1, 2, *[PLACEHOLDER] * 4, 3] if with_voice else [1, 2, 3]
    prompt = prompt_of(shared, texts, VOICE if with_voice else None)
    counting = Counting(backend)
    prefixes: LRUCache[CachedPositions] = LRUCache(1 << 20)
    fresh = logits_after(BundleModel(backend), prompt)
    first, again = (logits_after(BundleModel(counting, prefixes=prefixes), prompt) for _ in range(2))
    np.testing.assert_allclose(first, fresh, atol=1e-4)
    np.testing.assert_array_equal(again, first)
    assert counting.started == [len(texts), 1, len(texts)], "the second time nothing shared is read"


def test_another_text_finds_the_same_voice_and_another_voice_does_not(backend: Backend) -> None:
    counting = Counting(backend)
    prefixes: LRUCache[CachedPositions] = LRUCache(1 << 20)
    model = BundleModel(counting, prefixes=prefixes)
    shared = [1, *[PLACEHOLDER] * 4]
    for voice_RK, text in [(VOICE, [5]), (VOICE, [6, 7, 8]), (VOICE[::-1], [5])]:
        logits_after(model, prompt_of(shared, [[2], text], voice_RK))
    assert counting.started == [2, 1, 2, 2, 1]
    assert len(prefixes) == 2


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_split_of_any_rows(backend: Backend, data: st.DataObject) -> None:
    tokens = st.integers(0, 17)
    shared = data.draw(st.lists(tokens, max_size=6))
    texts = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=3))
    prompt = prompt_of(shared, texts)
    reused = logits_after(BundleModel(backend, prefixes=LRUCache(1 << 20)), prompt)
    np.testing.assert_allclose(reused, logits_after(BundleModel(backend), prompt), atol=1e-4)


def test_rows_must_really_share(backend: Backend) -> None:
    rows = Prompt.from_rows([[1, 2, 3], [1, 4, 3]], num_shared=2)
    with pytest.raises(PromptError, match="differ within the 2 tokens"):
        BundleModel(backend, prefixes=LRUCache(1000)).prefill(rows)
    with pytest.raises(PromptError, match="cannot share 3 tokens"):
        Prompt.from_rows([[1, 2, 3], [1, 4, 3, 5]], num_shared=3)


def test_room_is_bounded_and_the_longest_unused_goes_first() -> None:
    recent: LRUCache[str] = LRUCache(10)
    recent.put(b"a", "first", 4)
    recent.put(b"b", "second", 4)
    recent.put(b"huge", "never", 11)
    assert recent.get(b"a") == "first"
    recent.put(b"c", "third", 4)
    assert [recent.get(key) for key in (b"a", b"b", b"c", b"huge")] == ["first", None, "third", None]
    assert recent.num_bytes == 8 and len(recent) == 2
