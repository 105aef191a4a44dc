"""The sizes that a bundle's engines allow: rows, positions of a pass, slots of the cache, frames of the codec."""

from __future__ import annotations

from dataclasses import dataclass

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER, WINDOW_FRAMES
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.vision.tower import GRAPH as VISION

Range = tuple[int, int, int]
"""Smallest, usual and largest."""

# The default number of prompt positions in the cache, beside the steps; or a front end's limit, where it is smaller.
_PROMPT = 512
_CAPACITY_UNIT = 256
# Chunks of a stream have 2 to 32 frames; a complete utterance is decoded in one call.
_USUAL_FRAMES = 8
_ENCODED_S = (1, 10)  # usual and largest: a voice to clone
# A grid step of a video has 16 to 64 tokens.
_VIDEO_TOKENS = (16, 64, 64)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`rows`: the largest number; a guided utterance has two, which is also the usual number. `positions`: of one
    pass; a longer prompt goes in chunks. `cache_capacities`: slots of the cache; a trunk has an engine for each."""

    rows: int = 2
    positions: int = 64
    cache_capacities: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, values in (
            ("rows", (self.rows,)),
            ("positions", (self.positions,)),
            ("cache", self.cache_capacities),
        ):
            if not values or min(values) < 1:
                raise ConfigError(f"{name} is {', '.join(map(str, values)) or 'empty'}; it must be 1 or more")
        if list(self.cache_capacities) != sorted(set(self.cache_capacities)):
            raise ConfigError(f"cache capacities are {list(self.cache_capacities)}; give each once, the smallest first")


def default_capacity(bundle: Bundle) -> int:
    """Slots for a prompt and the longest utterance that the bundle's settings allow, in units of 256."""
    prompt = _PROMPT
    if bundle.frontend_dir is not None:
        settings = read_json(bundle.checked("frontend/frontend.json"), BundleError)
        prompt = min(prompt, int(settings.get("max_prompt_tokens", prompt)))
    steps = max((sampling.max_steps for sampling in bundle.sampling.values()), default=_CAPACITY_UNIT)
    wanted = min(prompt + steps, bundle.model.max_positions)
    return -(-wanted // _CAPACITY_UNIT) * _CAPACITY_UNIT


def graph_sizes(bundle: Bundle, graph: str, limits: Limits, cache_capacity: int | None) -> dict[str, Range]:
    """Sizes of a graph's symbolic dimensions."""
    if graph in (ENCODER, DECODER):
        return _codec_sizes(bundle)
    if graph == VISION and bundle.vision is not None:
        unit = bundle.vision.merge_unit
        smallest, usual, largest = (tokens * unit for tokens in _VIDEO_TOKENS)
        return {"P": (smallest, usual, largest)}
    per_key = bundle.model.queries_per_key
    sizes = {
        "B": (1, min(2, limits.rows), limits.rows),
        "T": (1, 1, limits.positions),
        "N": (1, min(2, limits.rows), limits.rows * limits.positions),
        "Q": (per_key, per_key, per_key * limits.positions),
    }
    if cache_capacity is not None:
        sizes["S"] = (cache_capacity,) * 3
    return sizes


def _codec_sizes(bundle: Bundle) -> dict[str, Range]:
    """Sizes for one row. A decoder without a state receives at most a window of frames and its surrounding frames."""
    codec = bundle.codec or {}
    rate, hop = int(codec["sample_rate_hz"]), int(codec["hop_samples"])
    around = int(codec.get("context_frames", 0)) + int(codec.get("lookahead_frames", 0))
    first = int(codec.get("min_first_frames", 1))
    longest = max((sampling.max_steps for sampling in bundle.sampling.values()), default=1000)
    if around:
        longest = min(longest, WINDOW_FRAMES)
    usual, most = (-(-seconds * rate // hop) * hop for seconds in _ENCODED_S)
    return {
        "B": (1, 1, 1),
        "T": (1, max(_USUAL_FRAMES, first) + around, max(longest, _USUAL_FRAMES + first) + around),
        "L": (hop, usual, most),
    }
