"""A step's time by its roofline: bytes over bandwidth, plus a cost for each launch.

    step = bytes / bandwidth + layers · trunk + launched · expert + head + host

A step of one or two rows uses each weight once or twice, so on every machine of the table the time goes to reading
it. A graph's cost beyond its bytes (small operators, launch, the router's read-back) hardly depends on its size, and
is one constant for each kind of graph.

L layers · R routed experts
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from unimoe_runtime.bundle.routing_statistics import Activation
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_tools.planning.weights import ModelBytes


@dataclass(frozen=True, kw_only=True)
class Costs:
    """A machine's costs: its read rate in bytes per second, seconds beyond a graph's bytes for each kind of graph, and
    the host's own seconds per step (inputs, sampling). `bytes_per_s` inf: a graph's seconds include reading its
    weights. `miss_bytes_per_s`: the read rate of experts outside the device's memory. `flops_per_s`: the rate of a long
    prompt's products; inf where only bytes count."""

    bytes_per_s: float
    trunk_s: float
    expert_s: float
    head_s: float
    host_s: float
    miss_bytes_per_s: float
    flops_per_s: float = inf


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The request: length of the prompt, average number of positions in the cache, and the streaming of audio.

    `frame_rate_hz`, `lookahead_frames`, `min_first_frames`: the codec's.
    """

    prompt_tokens: int = 128
    cached_positions: int = 384
    frame_rate_hz: float | None = None
    lookahead_frames: int = 0
    min_first_frames: int = 1

    def first_frames(self) -> int:
        """Frames that the first chunk of a stream waits for."""
        return max(ChunkSchedule().frames[0], self.min_first_frames) + self.lookahead_frames


@dataclass(frozen=True, kw_only=True)
class Launches:
    """The number of experts that a step launches, None for the recorded mean, and the share of them outside the
    device's memory."""

    count: float | None = None
    missed_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Seconds of one step, of the prefill, and until the first samples; bytes and launches per step."""

    step_s: float
    prefill_s: float
    first_audio_s: float
    step_bytes: float
    launched: float


def cache_bytes(model: ModelConfig, rows: int, positions: int) -> float:
    """Bytes of keys and values in float32."""
    return 4.0 * 2 * rows * model.num_layers * model.num_kv_heads * model.head_dim * positions


def predict(
    model: ModelConfig,
    weights: ModelBytes,
    activation: Activation,
    workload: Workload,
    costs: Costs,
    launches: Launches | None = None,
) -> Prediction:
    """One machine's times for a step; without `launches`, for the recorded mean with all experts in memory."""
    launches = launches or Launches()
    count, missed_share = launches.count, launches.missed_share
    if count is None:
        count = activation.mean
    expert_bytes = _mean_expert(weights, activation) * count
    read = step_bytes(model, weights, activation, workload, launched=count)
    overhead_s = model.num_layers * costs.trunk_s + count * costs.expert_s + costs.head_s + costs.host_s
    # Read over the slower path first, then from the device's memory like the others.
    missed_s = missed_share * expert_bytes / costs.miss_bytes_per_s
    step_s = read / costs.bytes_per_s + overhead_s + missed_s

    # A prompt of many tokens picks every expert; the head is not needed.
    all_experts = float(weights.experts_LR.sum())
    tokens = activation.rows * workload.prompt_tokens
    work = 2.0 * tokens * _active_parameters(model, activation)
    prefill_s = max((weights.trunks_L.sum() + all_experts) / costs.bytes_per_s, work / costs.flops_per_s)
    launches_s = model.num_layers * (costs.trunk_s + model.num_routed_experts * costs.expert_s)
    prefill_s += launches_s + missed_share * all_experts / costs.miss_bytes_per_s
    steps = max(model.delay_pattern) + workload.first_frames()
    return Prediction(
        step_s=step_s,
        prefill_s=float(prefill_s),
        first_audio_s=float(prefill_s + steps * step_s),
        step_bytes=read,
        launched=count,
    )


def step_bytes(
    model: ModelConfig, weights: ModelBytes, activation: Activation, workload: Workload, *, launched: float
) -> float:
    """Bytes that a step with this number of launches reads: weights, keys and values, rows of the embeddings."""
    cache = cache_bytes(model, activation.rows, workload.cached_positions)
    embeddings = 4.0 * activation.rows * model.num_codebooks * model.hidden_size
    return weights.always + _mean_expert(weights, activation) * launched + cache + embeddings


def _mean_expert(weights: ModelBytes, activation: Activation) -> float:
    """Mean bytes of an expert, weighted by the frequency of its launches."""
    if not activation.mean:
        return 0.0
    return float((weights.experts_LR * activation.share_LR).sum() / activation.mean)


def _active_parameters(model: ModelConfig, activation: Activation) -> float:
    """Weights that a prompt's token is multiplied with; a row of a step picks a little less than the step launches."""
    qkv = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    attention = model.hidden_size * (qkv + model.num_heads * model.head_dim)
    shared = 3 * model.hidden_size * model.num_shared_experts * model.shared_intermediate_size
    routed = 3 * model.hidden_size * model.routed_intermediate_size * activation.mean / max(model.num_layers, 1)
    return float(model.num_layers * (attention + shared + routed / np.sqrt(activation.rows)))
