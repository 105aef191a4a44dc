"""A clip's frames, sampled at a rate and resized for the vision tower.

The sizes are those that the published code intends: at most `MAX_TOKENS` video tokens per grid step (two frames), and
`TOTAL_TOKENS` for the whole clip if that leaves `MIN_TOKENS` per step. (The published entry point overrides them with
one frame of six tokens, and rounds the height of wide clips down to zero. Here each side has at least one token.)

F frames · H height · W width · C colours (red, green, blue)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import VideoError
from unimoe_runtime.files.text import reason_of
from unimoe_runtime.install import install_command

RATE_HZ = 1.0
# 64 frames are the most that fit TOTAL_TOKENS, and last three times as long as the longest music.
MAX_FRAMES = 64
TOTAL_TOKENS, MIN_TOKENS, MAX_TOKENS = 512, 16, 64
_FRAMES_PER_STEP = 2
_MAX_RATIO = 200
_EPSILON_S = 1e-6
# Limits on a file: sampled frames, packets and decoded frames of the span that is read, pixels of a frame.
_MAX_RATE_HZ, _MAX_SAMPLED, _MAX_PACKETS, _MAX_PIXELS = 1000.0, 4096, 1 << 16, 1 << 26
_REORDERED_S = 2.0  # the most by which packets may be out of the order of their frames


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """Sampled and resized frames: `frames_FHWC` uint8, RGB; a frame covers `seconds_per_frame`."""

    frames_FHWC: NDArray[np.uint8]
    seconds_per_frame: float


def frame_size(height: int, width: int, num_frames: int, *, factor: int) -> tuple[int, int]:
    """Height and width in pixels to which `num_frames` frames are resized: multiples of `factor`, a token's side.

    The aspect ratio is kept up to rounding. Raises VideoError for a ratio above 200.
    """
    if max(height, width) > _MAX_RATIO * min(height, width):
        raise VideoError(f"a video of {width} × {height} pixels is too narrow; the longest side may be 200 × the other")
    pixels = factor * factor
    most = max(
        min(MAX_TOKENS * pixels, TOTAL_TOKENS * pixels / num_frames * _FRAMES_PER_STEP), int(MIN_TOKENS * pixels * 1.05)
    )
    least = MIN_TOKENS * pixels
    rows, columns = (max(1, round(side / factor)) for side in (height, width))
    if rows * columns * pixels > most:
        scale = math.sqrt(height * width / most)
        rows, columns = (max(1, math.floor(side / scale / factor)) for side in (height, width))
        # A side that was raised to one token leaves less for the other.
        tokens = int(most / pixels)
        rows, columns = min(rows, tokens // min(columns, tokens)), min(columns, tokens // min(rows, tokens))
    elif rows * columns * pixels < least:
        scale = math.sqrt(least / (height * width))
        rows, columns = (math.ceil(side * scale / factor) for side in (height, width))
    return rows * factor, columns * factor


def read_video(
    path: Path | str,
    *,
    factor: int = 28,
    rate_hz: float = RATE_HZ,
    max_frames: int = MAX_FRAMES,
) -> Video:
    """The frames shown at 0, 1 / rate_hz, 2 / rate_hz … seconds of a file's video stream, `max_frames` at most.

    `factor` is the vision tower's (`VisionConfig.factor`); for the sizes see `frame_size`. Frames are resized
    bicubically with antialiasing, and rotated upright if the file says so. Only sampled, resized frames are kept.
    Raises VideoError, one line, for a file that is missing, has no video stream or no frames, or cannot be decoded,
    and if PyAV or Pillow is not installed.
    """
    path = Path(path)
    for name, value, most in (("rate_hz", rate_hz, _MAX_RATE_HZ), ("max_frames", max_frames, _MAX_SAMPLED)):
        if not 0 < value <= most:
            raise VideoError(f"{name} is {value}; it must be above 0, at most {most:g}")
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file")
    Image = _pillow()
    duration_s = _duration_s(path, max_frames / rate_hz)
    num_frames = min(max_frames, max(1, math.ceil((duration_s - _EPSILON_S) * rate_hz)))
    frames: list[NDArray[np.uint8]] = []
    size: tuple[int, int] | None = None
    for frame in _shown_at(path, [index / rate_hz for index in range(num_frames)]):
        if size is None:
            height, width = frame.shape[:2]
            size = frame_size(height, width, num_frames, factor=factor)
        resized = Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        frames.append(np.asarray(resized, dtype=np.uint8))
    return Video(frames_FHWC=np.stack(frames), seconds_per_frame=1 / rate_hz)


def _duration_s(path: Path, most_s: float) -> float:
    """Seconds from the start of the first frame to the end of the last one, from the packets alone; for a clip that is
    longer than `most_s`, some value above that."""
    with _opened(path) as (container, stream):
        rate = stream.average_rate or Fraction(25)
        begin: Any = None
        end = last_begin = 0
        for number, packet in enumerate(container.demux(stream)):
            _require_few(number, path)
            if packet.pts is None:
                continue
            begin = packet.pts if begin is None else min(begin, packet.pts)
            last_begin = max(last_begin, packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
            if (last_begin - begin) * stream.time_base > most_s + _REORDERED_S:
                break
        if begin is None:
            raise VideoError(f"{path}: has no frames")
        # In a format without durations, that of the last frame is unknown.
        tail = 1 / rate if end == last_begin else 0
        return float((end - begin) * stream.time_base + tail)


def _shown_at(path: Path, times_s: list[float]) -> Iterator[NDArray[np.uint8]]:
    """The frame shown at each of the times (ascending, from the first frame on), upright, [H, W, 3]."""
    with _opened(path) as (container, stream):
        shown: Any = None
        begin_s = 0.0
        next_time = 0
        for number, frame in enumerate(container.decode(stream)):
            _require_few(number, path)
            if frame.time is None:
                raise VideoError(f"{path}: its frames have no time stamps; convert it to mp4")
            if shown is None:
                begin_s = frame.time
            while shown is not None and times_s[next_time] < frame.time - begin_s - _EPSILON_S:
                yield _upright(shown)
                next_time += 1
                if next_time == len(times_s):
                    return
            shown = frame
        if shown is None:
            raise VideoError(f"{path}: has no frames")
        for _ in times_s[next_time:]:
            yield _upright(shown)


def _require_few(number: int, path: Path) -> None:
    if number > _MAX_PACKETS:
        raise VideoError(f"{path}: has more than {_MAX_PACKETS:,} frames in the part that is read; shorten it")


def _upright(frame: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file's container and its first video stream. Any failure in the block becomes a one-line VideoError."""
    try:
        import av
    except ImportError:
        raise VideoError(f"reading a video needs PyAV: `{install_command('video')}`") from None
    try:
        # A playlist may name other files and addresses; only this file is read.
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                raise VideoError(f"{path}: has no video stream")
            if streams[0].codec_context is None:
                raise VideoError(f"{path}: is in a format that cannot be decoded; convert it to mp4")
            width, height = streams[0].codec_context.width, streams[0].codec_context.height
            if width * height > _MAX_PIXELS:
                raise VideoError(f"{path}: has frames of {width} × {height} pixels; make it smaller")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]
    except av.EOFError:
        raise VideoError(f"{path}: has no frames") from None
    except (av.FFmpegError, ValueError, OverflowError, OSError) as error:
        raise VideoError(f"{path}: cannot be decoded as a video ({reason_of(error)})") from None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise VideoError(f"reading a video needs Pillow: `{install_command('video')}`") from None
    return Image
