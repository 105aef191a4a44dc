"""A bundle's codec: audio to codes and back, whole or as a stream, through the graphs codec_encoder and codec_decoder.

The decoder's graph takes a state and returns the next one; the initial state is all zeros. A decoder that is not
causal has no state and also gets the frames around those that it decodes. So a stream gives the same samples as
decoding at once, wherever it is split into chunks.

K codebooks · T frames · L samples · H hop_samples
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.manifest import DECODER as DECODER
from unimoe_runtime.bundle.manifest import ENCODER as ENCODER
from unimoe_runtime.bundle.manifest import CodecDescription
from unimoe_runtime.codec.dac_config import Strides, frames_around
from unimoe_runtime.errors import BackendError, BundleError, ConfigError
from unimoe_runtime.records import check_value, require

Run = Callable[[str, Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""`Backend.run`: takes a graph's name and its inputs, returns its outputs."""

# A decoder without a state is large: decoding in windows takes less memory, and less time on a CPU.
WINDOW_FRAMES = 100


class BundleCodec:
    """The codec that a manifest's `codec` describes. `run` is a backend's `run`.

    Raises BundleError if the bundle has no codec, or if its description lacks a field.
    """

    def __init__(self, description: Mapping[str, Any] | None, run: Run) -> None:
        if description is None:
            raise BundleError("the bundle has no codec: export a checkpoint that has one")
        try:
            found = CodecDescription.from_dict(description, "codec", ignore_unknown=True)
            _check_frames_around(found, description)
        except ConfigError as error:
            raise BundleError(f"the manifest's codec is damaged ({error}): export the bundle again") from None
        self.kind, self.sample_rate_hz, self.hop_samples = found.kind, found.sample_rate_hz, found.hop_samples
        self.num_codebooks, self.codebook_size = found.num_codebooks, found.codebook_size
        self.min_first_frames, self.context_frames = found.min_first_frames, found.context_frames
        self.lookahead_frames = found.lookahead_frames
        self._initial_state = {state.name: np.zeros(state.shape, state.dtype) for state in found.decoder_state}
        self._run = run

    def encode(self, pcm_L: NDArray[np.float32]) -> NDArray[np.int64]:
        """codes_KT of mono samples in -1 … 1 at the codec's rate. The last frame is padded with zeros."""
        if pcm_L.ndim != 1:
            raise ValueError(f"pcm_L has {pcm_L.ndim} axes; it must be mono, with one")
        if len(pcm_L) == 0:
            return np.zeros((self.num_codebooks, 0), np.int64)
        padded_L = np.pad(pcm_L.astype(np.float32, copy=False), (0, -len(pcm_L) % self.hop_samples))
        return np.asarray(self._run(ENCODER, {"pcm_BL": padded_L[None]})["codes_BKT"][0], np.int64)

    def decode(self, codes_KT: NDArray[np.int64]) -> NDArray[np.float32]:
        """pcm_L of all codes, L = T · H."""
        decoder = self.stream()
        decoder.take(codes_KT)
        return decoder.finish()

    def stream(self) -> StreamingDecoder:
        """A decoder at the beginning of an utterance."""
        return StreamingDecoder(self, self._run, self._initial_state)


def _check_frames_around(codec: CodecDescription, description: Mapping[str, Any]) -> None:
    """Check that DAC's decoder gets the frames around a frame that its strides need: fewer change the samples."""
    if codec.kind == "dac" and "decoder_strides" in description:
        needed = frames_around(check_value(description["decoder_strides"], Strides, "decoder_strides"))
        for name, frames in zip(("context_frames", "lookahead_frames"), needed, strict=True):
            require(getattr(codec, name) == frames, name, getattr(codec, name), f"{frames}, as decoder_strides say")


class StreamingDecoder:
    """Decodes one utterance chunk by chunk: `push` codes as they arrive, `finish` at the end.

    EnCodec needs some frames before it can begin (`min_first_frames`), and DAC looks ahead (`lookahead_frames`). Frames
    wait until no later code can change their samples. DAC's decoder has no state, so the previous frames
    (`context_frames`) are kept and decoded again, and their samples are cropped.
    """

    def __init__(self, codec: BundleCodec, run: Run, initial_state: Mapping[str, NDArray[Any]]) -> None:
        self._codec = codec
        self._run = run
        self._state = initial_state
        self._codes_KT = np.zeros((codec.num_codebooks, 0), np.int64)  # context, then waiting frames
        self._num_decoded = 0
        self._context = 0

    def push(self, codes_KT: NDArray[np.int64]) -> NDArray[np.float32]:
        """The samples that these codes complete. Raises ValueError for codes that the codec does not have."""
        self.take(codes_KT)
        return self.certain()

    def take(self, codes_KT: NDArray[np.int64]) -> None:
        """Add codes for `certain`, `push` or `finish`. Raises ValueError for codes that the codec does not have."""
        codec = self._codec
        if codes_KT.ndim != 2 or codes_KT.shape[0] != codec.num_codebooks:
            raise ValueError(f"codes_KT has the shape {codes_KT.shape}; it must be ({codec.num_codebooks}, T)")
        if codes_KT.size and not 0 <= codes_KT.min() <= codes_KT.max() < codec.codebook_size:
            raise ValueError(f"a code is {codes_KT.min()} or {codes_KT.max()}; codes are 0 … {codec.codebook_size - 1}")
        self._codes_KT = np.concatenate([self._codes_KT, codes_KT], axis=1)

    def certain(self) -> NDArray[np.float32]:
        """The samples of waiting codes that no later code can change."""
        num_waiting = self._codes_KT.shape[1] - self._context
        if self._num_decoded == 0 and num_waiting < self._codec.min_first_frames:
            return np.zeros(0, np.float32)
        return self._decode(num_waiting - self._codec.lookahead_frames)

    def finish(self) -> NDArray[np.float32]:
        """The samples of all waiting codes; empty if none wait."""
        return self._decode(self._codes_KT.shape[1] - self._context)

    def _decode(self, num_frames: int) -> NDArray[np.float32]:
        """Decode the first `num_frames` waiting frames; the frames around them must be there."""
        codec = self._codec
        if not codec.context_frames:
            return self._decode_window(num_frames) if num_frames > 0 else np.zeros(0, np.float32)
        starts = range(0, num_frames, WINDOW_FRAMES)
        pieces = [self._decode_window(min(WINDOW_FRAMES, num_frames - start)) for start in starts]
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def _decode_window(self, num_frames: int) -> NDArray[np.float32]:
        codec, end = self._codec, self._context + num_frames
        # A decoder with a state must see each frame once, so it gets only the frames to be decoded.
        codes_KT = self._codes_KT[:, : end + codec.lookahead_frames]
        outputs = self._run(DECODER, {"codes_BKT": np.ascontiguousarray(codes_KT)[None], **self._state})
        self._state = {name: outputs[f"new_{name}"] for name in self._state}
        pcm_BL, num_samples = outputs["pcm_BL"], codes_KT.shape[1] * codec.hop_samples
        if pcm_BL.shape != (1, num_samples):
            raise BackendError(
                f"{DECODER}: gives {list(pcm_BL.shape)} samples where the manifest says {[1, num_samples]}; "
                "export the bundle again"
            )
        pcm_L = np.asarray(pcm_BL[0, self._context * codec.hop_samples : end * codec.hop_samples], np.float32)
        if not np.isfinite(pcm_L).all():
            raise BackendError(
                f"{DECODER}: gives samples that are not numbers; its weights are damaged: export the bundle again"
            )
        self._num_decoded += num_frames
        self._context = min(codec.context_frames, end)
        self._codes_KT = self._codes_KT[:, end - self._context :]
        return pcm_L
