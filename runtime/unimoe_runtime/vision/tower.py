"""The vision tower's host side: it turns a clip's frames into embeddings for a prompt.

The tower (Qwen2.5-VL, arXiv 2502.13923) reads patches of two frames. A grid step is one such pair of frames. Most
blocks attend within windows of a grid step, a few within the whole grid step, none across grid steps. So a clip's grid
steps are computed one after the other, and memory does not grow with the clip.

The graph takes patches in the order of windows. A square of `spatial_merge_size` neighbouring patches stays together
and becomes one embedding, a video token.

F frames · G grid steps · P patches · M values of a patch · V video tokens (P / merge²) · D head dimension · C channels
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import BundleError, ConfigError, VideoError
from unimoe_runtime.records import Between, JsonRecord, require
from unimoe_runtime.vision.video import Video

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Grid = tuple[int, int, int]
"""Grid steps, and rows and columns of patches, of one clip."""
Run = Callable[[str, Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]

GRAPH = "vision"
RMS_NORM_EPS = 1e-6
ROPE_THETA = 10_000.0
# Mean and standard deviation of the colours (red, green, blue; 0 … 1) in the tower's training: CLIP's.
_MEAN_C = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_DEVIATION_C = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


Width = Annotated[int, Between(1, 1 << 20)]
Token = Annotated[int, Between(0, (1 << 31) - 1)]


@dataclass(frozen=True, kw_only=True)
class VisionConfig(JsonRecord):
    """Shape of the vision tower and the ids of its tokens. `window_size` is in pixels, all other sizes in channels,
    patches or frames. A second of video spans `tokens_per_second` positions."""

    num_blocks: Annotated[int, Between(1, 1024)]
    hidden_size: Width
    intermediate_size: Width
    num_heads: Annotated[int, Between(1, 4096)]
    out_hidden_size: Annotated[int, Between(1, 1 << 24)]
    patch_size: Annotated[int, Between(1, 1024)]
    spatial_merge_size: Annotated[int, Between(1, 64)]
    temporal_patch_size: Annotated[int, Between(1, 64)]
    window_size: Annotated[int, Between(1, 1 << 16)]
    full_attention_blocks: tuple[Annotated[int, Between(0, 1023)], ...]
    tokens_per_second: Annotated[float, Between(0, 1000, above=True)]
    vision_start_id: Token
    vision_end_id: Token
    video_token_id: Token
    in_channels: Literal[3] = 3

    def check_together(self) -> None:
        require(
            self.hidden_size % (4 * self.num_heads) == 0,
            "hidden_size", self.hidden_size, f"a multiple of 4 for each of {self.num_heads} heads",
        )  # fmt: skip
        require(self.window_size >= self.factor, "window_size", self.window_size, f"at least {self.factor}")
        blocks = self.full_attention_blocks
        require(
            all(block < self.num_blocks for block in blocks),
            "full_attention_blocks", blocks, f"indices in 0 … {self.num_blocks - 1}",
        )  # fmt: skip

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def merge_unit(self) -> int:
        """Number of patches that become one video token."""
        return self.spatial_merge_size**2

    @property
    def factor(self) -> int:
        """Height and width of a frame are multiples of this many pixels."""
        return self.patch_size * self.spatial_merge_size

    @property
    def patch_values(self) -> int:
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    def num_tokens(self, grid: Grid) -> int:
        """Number of video tokens of a clip."""
        return grid[0] * grid[1] * grid[2] // self.merge_unit


def vision_weight_shapes(config: VisionConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of the weights of a bundle's vision graph, [in, out]."""
    hidden, width, merged = config.hidden_size, config.intermediate_size, config.hidden_size * config.merge_unit
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.weight": (config.patch_values, hidden)}

    def linear(name: str, num_in: int, num_out: int) -> None:
        shapes[name + ".weight"], shapes[name + ".bias"] = (num_in, num_out), (num_out,)

    for block in range(config.num_blocks):
        prefix = f"blocks.{block}."
        shapes[prefix + "attention_norm.weight"] = (hidden,)
        linear(prefix + "qkv", hidden, 3 * hidden)
        linear(prefix + "o", hidden, hidden)
        shapes[prefix + "mlp_norm.weight"] = (hidden,)
        linear(prefix + "gate_up", hidden, 2 * width)
        linear(prefix + "down", width, hidden)
    shapes["merger.norm.weight"] = (hidden,)
    linear("merger.up", merged, merged)
    linear("merger.down", merged, config.out_hidden_size)
    return shapes


def patchify(frames_FHWC: NDArray[np.uint8], config: VisionConfig) -> tuple[Floats, Grid]:
    """patches_PM of RGB frames whose sides are multiples of `config.factor`, and their grid.

    Colours are normalised. The last frame is repeated to complete the last grid step. Patches are ordered by step, row
    and column of the merged square, and row and column inside it; a patch's values by colour, frame, row and column.
    Raises VideoError for a shape that does not fit.
    """
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[3] != config.in_channels or not frames_FHWC.size:
        raise VideoError(f"frames have the shape {list(frames_FHWC.shape)}; they must be [frames, height, width, 3]")
    num_frames, height, width, channels = frames_FHWC.shape
    if height % config.factor or width % config.factor:
        raise VideoError(f"frames of {height} × {width} pixels; both must be multiples of {config.factor}")
    pair, patch, merge = config.temporal_patch_size, config.patch_size, config.spatial_merge_size
    values = (frames_FHWC.astype(np.float32) / np.float32(255) - _MEAN_C) / _DEVIATION_C
    values = np.pad(values, ((0, -num_frames % pair), (0, 0), (0, 0), (0, 0)), mode="edge")
    grid = len(values) // pair, height // patch, width // patch
    split = values.reshape(grid[0], pair, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch, channels)
    return split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, config.patch_values), grid


def window_order(grids: Sequence[Grid], config: VisionConfig) -> tuple[Integers, Integers]:
    """The order of video tokens by windows, and the number of patches in each window.

    `order_V[i]` is the token that comes i-th. Windows at the right and lower edges are smaller.
    """
    side = config.window_size // config.factor
    order: list[Integers] = []
    begin = 0
    for steps, height, width in grids:
        shape = steps, height // config.spatial_merge_size, width // config.spatial_merge_size
        tokens = begin + np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        for step in tokens:
            for row in range(0, shape[1], side):
                for column in range(0, shape[2], side):
                    order.append(step[row : row + side, column : column + side].ravel())
        begin += tokens.size
    return np.concatenate(order), config.merge_unit * np.array([len(window) for window in order], dtype=np.int64)


def rotation_angles(grids: Sequence[Grid], config: VisionConfig) -> Floats:
    """angles_PX (X = D / 2), patches in `patchify`'s order: half depend on a patch's row, half on its column."""
    merge = config.spatial_merge_size
    frequency = ROPE_THETA ** -(np.arange(config.head_dim // 4, dtype=np.float32) * 4 / config.head_dim)
    angles = []
    for steps, height, width in grids:
        places = np.indices((height, width), dtype=np.float32)
        blocks = places.reshape(2, height // merge, merge, width // merge, merge).transpose(1, 3, 2, 4, 0)
        turned = (blocks.reshape(-1, 2)[:, :, None] * frequency.astype(np.float32)).reshape(height * width, -1)
        angles.append(np.tile(turned, (steps, 1)))
    return np.concatenate(angles).astype(np.float32, copy=False)


def tower_inputs(
    patches_PM: Floats, grids: Sequence[Grid], config: VisionConfig
) -> tuple[dict[str, NDArray[Any]], Integers]:
    """The graph's inputs for the patches of some clips, and order_V: output i is the embedding of token order_V[i].

    patches_PM, cos_PD, sin_PD; window_mask_11PP and full_mask_11PP are True where a patch may attend to another:
    within its window, and within its grid step.
    """
    order_V, window_lengths = window_order(grids, config)
    order_P = (order_V[:, None] * config.merge_unit + np.arange(config.merge_unit)).ravel()
    angles_PD = np.tile(rotation_angles(grids, config)[order_P], 2)
    steps = np.concatenate([np.full(steps, height * width) for steps, height, width in grids])
    inputs = {
        "patches_PM": patches_PM[order_P],
        "cos_PD": np.cos(angles_PD),
        "sin_PD": np.sin(angles_PD),
        "window_mask_11PP": _same_segment(window_lengths),
        "full_mask_11PP": _same_segment(steps),
    }
    return inputs, order_V


def _same_segment(lengths: Integers) -> NDArray[np.bool_]:
    segment_P = np.repeat(np.arange(len(lengths)), lengths)
    return np.equal(segment_P[:, None], segment_P[None, :])[None, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """A clip as the language model reads it. `seconds_per_grid`: duration of a grid step."""

    embeddings_VC: Floats
    grid: Grid
    seconds_per_grid: float


class BundleVision:
    """The vision tower that a manifest's `vision` describes. `run` is a backend's `run`.

    Raises BundleError if the bundle has no vision tower, or if its description is inconsistent.
    """

    def __init__(self, description: Mapping[str, Any] | None, run: Run) -> None:
        if description is None:
            raise BundleError("the bundle has no vision tower: export a checkpoint that has one")
        try:
            self.config = VisionConfig.from_dict(description)
        except ConfigError as error:
            raise BundleError(f"the manifest's vision is damaged ({error}): export the bundle again") from None
        self._run = run

    def embed(self, video: Video) -> VideoFeatures:
        """Embeddings of a clip's tokens, in the order of `patchify`.

        Raises VideoError for frames that do not fit, or whose grid steps are shorter than a second: positions use whole
        seconds per grid step (`video_positions`), so all such steps would have the same time.
        """
        seconds_per_grid = video.seconds_per_frame * self.config.temporal_patch_size
        if seconds_per_grid < 1:
            raise VideoError(
                f"the video has a frame every {video.seconds_per_frame:g} s; the model tells apart at most "
                f"{self.config.temporal_patch_size} frames a second: sample at a lower rate"
            )
        patches_PM, (steps, height, width) = patchify(video.frames_FHWC, self.config)
        parts = []
        for patches in np.split(patches_PM, steps):
            inputs, order_V = tower_inputs(patches, [(1, height, width)], self.config)
            part_VC = np.empty((len(order_V), self.config.out_hidden_size), np.float32)
            part_VC[order_V] = self._run(GRAPH, inputs)["embeddings_VC"]
            parts.append(part_VC)
        return VideoFeatures(
            embeddings_VC=np.concatenate(parts),
            grid=(steps, height, width),
            seconds_per_grid=seconds_per_grid,
        )
