"""DAC's configuration, and the frames around a frame that its samples depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.codec.dac_config import DacConfig, check_shapes, frames_around, tensor_shapes
from unimoe_runtime.errors import BundleError, CheckpointError, ConfigError

CONFIG: dict[str, Any] = {
    "sample_rate_hz": 16_000, "encoder_width": 8, "encoder_strides": [2, 4, 5, 8], "decoder_width": 64,
    "decoder_strides": [8, 5, 4, 2], "latent_size": 16, "num_codebooks": 4, "codebook_size": 32, "codebook_width": 4,
}  # fmt: skip


@pytest.mark.parametrize("strides", [(8, 5, 4, 2), (4, 4), (2,), (8, 8, 4, 2)])
def test_frames_around_are_traced_through_the_layers(strides: tuple[int, ...]) -> None:
    """The same by marking what each layer's output depends on."""
    middle, frames = 40, 81
    reached = np.eye(frames, dtype=bool)  # [outputs, frames]

    def conv(inputs: np.ndarray, dilation: int = 1) -> np.ndarray:
        found = np.zeros_like(inputs)
        for shift in range(-3 * dilation, 3 * dilation + 1, dilation):
            found |= np.roll(inputs, shift, axis=0)
        return found

    reached = conv(reached)
    for stride in strides:
        padding = (stride + 1) // 2
        outputs = np.zeros((len(reached) * stride, frames), bool)
        for index in range(len(reached)):
            begin = index * stride - padding
            outputs[max(0, begin) : max(0, begin + 2 * stride)] |= reached[index]
        reached = outputs
        for dilation in (1, 3, 9):
            reached = conv(reached, dilation)
    reached = conv(reached)
    hop = int(np.prod(strides))
    needed = np.flatnonzero(reached[middle * hop : (middle + 1) * hop].any(axis=0))
    assert frames_around(strides) == (middle - needed.min(), needed.max() - middle)


@pytest.mark.parametrize("field", ["context_frames", "lookahead_frames"])
@pytest.mark.parametrize("value", [0, 9, 11])
def test_a_description_with_other_frames_around_is_refused(field: str, value: int) -> None:
    before, after = frames_around((8, 5, 4, 2))
    described = {
        "kind": "dac", "sample_rate_hz": 16_000, "hop_samples": 320, "num_codebooks": 4, "codebook_size": 32,
        "context_frames": before, "lookahead_frames": after, "decoder_strides": [8, 5, 4, 2],
    }  # fmt: skip
    BundleCodec(described, lambda graph, inputs: {})
    with pytest.raises(BundleError, match=field):
        BundleCodec({**described, field: value}, lambda graph, inputs: {})


@pytest.mark.parametrize(
    "change", [{"decoder_strides": [8, 5, 4]}, {"decoder_width": 65}, {"encoder_strides": []}, {"latent_size": 0}]
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DacConfig.from_dict({**CONFIG, **change})


def test_tensors_of_other_shapes_are_named() -> None:
    shapes = tensor_shapes(DacConfig.from_dict(CONFIG))
    check_shapes("here", shapes, shapes)
    with pytest.raises(CheckpointError, match=r"^here: .* extra other"):
        check_shapes("here", shapes, {**shapes, "other": (1,)})
