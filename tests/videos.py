"""Video files of known frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames_FHWC: np.ndarray, rate_hz: int, *, codec: str = "png") -> Path:
    """A file of these frames; lossless with the default codec."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames_FHWC.shape[1:3]
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        container.start_encoding()
        for index, pixels in enumerate(frames_FHWC):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(num_frames: int, height: int = 56, width: int = 84) -> np.ndarray:
    """Uniform grey frames: frame i has the value i."""
    return np.broadcast_to(
        np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, height, width, 3)
    ).copy()
