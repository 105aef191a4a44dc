"""Frames of video files: their choice and size, and one line for any faulty file."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.videos import numbered, write_video
from unimoe_runtime.errors import VideoError
from unimoe_runtime.vision.video import frame_size, read_video


@pytest.mark.parametrize(
    ("width", "height", "num_frames", "total_tokens", "size"),
    [
        (640, 360, 1, 3, (28, 84)),
        (1920, 1080, 1, 3, (28, 84)),
        (640, 360, 64, 512, (84, 140)),
        (1280, 720, 16, 512, (168, 280)),
        (360, 640, 4, 512, (280, 168)),
        (100, 100, 2, 3, (28, 28)),
        (640, 360, 8, 3, (28, 28)),  # the published code gives (0, 28) and fails
    ],
)
def test_sizes_as_the_published_code_makes_them(
    width: int, height: int, num_frames: int, total_tokens: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that code's own limits."""
    monkeypatch.setattr("unimoe_runtime.vision.video.TOTAL_TOKENS", total_tokens)
    monkeypatch.setattr("unimoe_runtime.vision.video.MIN_TOKENS", 1)
    assert frame_size(height, width, num_frames, factor=28) == size


def test_sizes_keep_to_the_tokens() -> None:
    for num_frames in (1, 2, 9, 16, 40, 64):
        for height, width in ((360, 640), (1080, 1920), (30, 4000), (64, 64), (720, 720)):
            rows, columns = (side // 28 for side in frame_size(height, width, num_frames, factor=28))
            assert min(rows, columns) >= 1 and rows * columns <= 64
            assert rows * columns * -(-num_frames // 2) <= 540
    with pytest.raises(VideoError, match="too narrow"):
        frame_size(2, 401, 1, factor=28)


@pytest.mark.parametrize(
    ("rate_hz", "expected"),
    [(1.0, [0, 10, 20]), (2.0, [0, 5, 10, 15, 20]), (4.0, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]), (0.25, [0]),
     (30.0, [*np.repeat(np.arange(25), 3)][:64])],
)  # fmt: skip
def test_frames_shown_at_the_rate(tmp_path: Path, rate_hz: float, expected: list[int]) -> None:
    path = write_video(tmp_path / "clip.mov", numbered(25), 10)
    video = read_video(path, rate_hz=rate_hz)
    assert video.frames_FHWC[:, 0, 0, 0].tolist() == expected
    assert video.frames_FHWC.dtype == np.uint8 and video.seconds_per_frame == 1 / rate_hz
    assert (video.frames_FHWC == video.frames_FHWC[:, :1, :1, :1]).all()


def test_no_more_than_max_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mov", numbered(25), 10)
    assert read_video(path, rate_hz=10, max_frames=3).frames_FHWC[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_resized_as_torch_does_with_antialiasing(tmp_path: Path) -> None:
    import torch
    from torch.nn import functional as F

    # The contrast is low enough that no intermediate value leaves 0 … 255, where implementations differ.
    frames = np.random.default_rng(0).integers(80, 176, size=(2, 360, 640, 3), dtype=np.uint8)
    path = write_video(tmp_path / "clip.mov", frames, 1)
    found = read_video(path).frames_FHWC
    assert found.shape == (2, 168, 280, 3)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    expected = F.interpolate(pixels, size=(168, 280), mode="bicubic", antialias=True).permute(0, 2, 3, 1).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_turned_upright_as_a_phone_asks_for(tmp_path: Path) -> None:
    frames = np.zeros((1, 64, 128, 3), np.uint8)
    frames[:, :, :64] = 255  # the left half is white
    path = write_video(tmp_path / "phone.mp4", frames, 1, codec="mpeg4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    # A quarter turn clockwise (ISO 14496-12: a, b, u, c, d, v, x, y, w).
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(content)
    pixels = read_video(path).frames_FHWC[0]
    assert pixels.shape[0] > pixels.shape[1]
    assert pixels[: len(pixels) // 3].mean() > 200 and pixels[-len(pixels) // 3 :].mean() < 50


def test_one_line_for_each_fault(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.zeros(1600, np.float32), 16_000)
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    whole = write_video(tmp_path / "whole.mp4", numbered(20), 10, codec="mpeg4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:200])
    empty = write_video(tmp_path / "empty.mkv", numbered(0), 10, codec="mpeg4")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    faults = {
        tmp_path / "none.mp4": "there is no such file",
        tmp_path: "there is no such file",
        sound: "has no video stream",
        text: "cannot be decoded as a video (Invalid data found when processing input)",
        cut: "cannot be decoded as a video",
        empty: "no frames",
        playlist: "cannot be decoded as a video",
    }
    for path, message in faults.items():
        with pytest.raises(VideoError) as problem:
            read_video(path)
        assert message in str(problem.value) and str(path) in str(problem.value) and "\n" not in str(problem.value)
    with pytest.raises(VideoError, match="rate_hz is 0; it must be above 0"):
        read_video(whole, rate_hz=0)


@pytest.mark.parametrize(
    ("atom", "place"),
    [(b"mvhd", 12), (b"mdhd", 12), (b"mdhd", 16), (b"stts", 8), (b"stts", 12), (b"stsz", 4), (b"stsz", 8), (b"stsc", 8),
     (b"tkhd", 76), (b"stco", 4), (b"elst", 8), (b"mp4v", 24)],
)  # fmt: skip
@pytest.mark.parametrize("value", [0, 1, 10**6, 2**31 - 1, 2**32 - 1])
def test_a_header_that_lies_is_one_line_or_does_no_harm(tmp_path: Path, atom: bytes, place: int, value: int) -> None:
    """Time scales, durations, counts and sizes: the file is refused, or at most 64 small frames are read at once."""
    content = write_video(tmp_path / "whole.mp4", numbered(6), 2, codec="mpeg4").read_bytes()
    begin = content.index(atom) + 4 + place
    path = tmp_path / "lies.mp4"
    path.write_bytes(content[:begin] + struct.pack(">I", value) + content[begin + 4 :])
    began = time.process_time()
    try:
        video = read_video(path)
    except VideoError as error:
        assert "\n" not in str(error)
    else:
        assert len(video.frames_FHWC) <= 64 and video.frames_FHWC.nbytes < 64 * 1024 * 1024
    assert time.process_time() - began < 10


def test_a_million_frames_a_second(tmp_path: Path) -> None:
    path = write_video(tmp_path / "fast.avi", numbered(20), 1_000_000)
    assert len(read_video(path).frames_FHWC) == 1
    with pytest.raises(VideoError, match="rate_hz"):
        read_video(path, rate_hz=1e6)
