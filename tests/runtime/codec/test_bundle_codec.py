"""A bundle's codec over graphs that match their description or contradict it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from unimoe_runtime.codec.bundle_codec import DECODER, BundleCodec
from unimoe_runtime.errors import BackendError, BundleError

DESCRIPTION: dict[str, Any] = {
    "kind": "test", "sample_rate_hz": 16000, "hop_samples": 4, "num_codebooks": 2, "codebook_size": 8,
    "decoder_state": [{"name": "last_BK", "shape": [1, 2], "dtype": "float32"}],
}  # fmt: skip


def decoder(graph: str, inputs: Mapping[str, Any], *, hop: int = 4, value: float = 0.5) -> dict[str, Any]:
    """Each frame's samples are a tenth of its codes' sum plus half of the previous codes, which the state carries."""
    assert graph == DECODER
    codes_BKT = inputs["codes_BKT"].astype(np.float32)
    before_BKT = np.concatenate([inputs["last_BK"][:, :, None], codes_BKT[:, :, :-1]], axis=2)
    frames_BT = (codes_BKT + value * before_BKT).sum(axis=1) / 10
    return {"pcm_BL": np.repeat(frames_BT, hop, axis=1).astype(np.float32), "new_last_BK": codes_BKT[:, :, -1]}


def test_a_stream_gives_what_decoding_at_once_gives() -> None:
    codec = BundleCodec(DESCRIPTION, decoder)
    codes_KT = np.random.default_rng(0).integers(8, size=(2, 9))
    stream = codec.stream()
    pieces = [stream.push(part) for part in np.split(codes_KT, [1, 3, 8], axis=1)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), codec.decode(codes_KT))


def test_a_graph_of_another_hop_is_named() -> None:
    codec = BundleCodec(DESCRIPTION, lambda graph, inputs: decoder(graph, inputs, hop=5))
    with pytest.raises(BackendError, match=r"codec_decoder: gives \[1, 15\] samples where the manifest says \[1, 12\]"):
        codec.decode(np.zeros((2, 3), np.int64))


def test_samples_that_are_no_numbers_stop_it() -> None:
    codec = BundleCodec(DESCRIPTION, lambda graph, inputs: decoder(graph, inputs, value=float("nan")))
    with pytest.raises(BackendError, match="samples that are not numbers"):
        codec.decode(np.zeros((2, 3), np.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_samples": 0}, r"codec\.hop_samples is 0"), ({"decoder_state": [{}]}, "the field 'name' is missing"),
        ({"lookahead_frames": 2}, "sees each frame once"),
    ],
)  # fmt: skip
def test_a_damaged_description_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        BundleCodec({**DESCRIPTION, **change}, decoder)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="has no codec"):
        BundleCodec(None, decoder)
