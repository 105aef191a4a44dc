"""The record of one setting, the source of tables, files, pages and comparisons, as plain JSON.

S decode steps · L layers · R routed experts
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import MANIFEST, Bundle
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats
from unimoe_tools.profiling.breakdown import DECODE_PARTS, MODEL_PARTS, STEP_PARTS, Routing
from unimoe_tools.profiling.errors_of_means import errors_of_means, joined_routing
from unimoe_tools.profiling.floor import compare_with_floor, expert_bytes, step_bytes, weight_bytes
from unimoe_tools.profiling.machine import Memory, last_level_cache_bytes
from unimoe_tools.profiling.measure import Generation
from unimoe_tools.profiling.playback import play
from unimoe_tools.profiling.recorder import Part

PARTS = tuple(part.name.lower() for part in DECODE_PARTS)
_LAYER_PARTS = (Part.TRUNK, Part.READ_BACK, Part.DISPATCH, Part.EXPERT)


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """The measured bundle: name, identity, sizes."""
    model = bundle.model
    manifest = (bundle.path / MANIFEST).read_bytes()
    return {
        "name": bundle.path.name,
        "path": str(bundle.path),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "precisions": sorted({bundle.graphs[name].precision for name in bundle.graphs}),
        "weight_bytes": sum(
            weight_bytes(bundle, name) for name in bundle.graphs if name.startswith(("layers", "head"))
        ),
        "layers": model.num_layers,
        "hidden": model.hidden_size,
        "routed_experts": model.num_routed_experts,
        "null_experts": model.num_null_experts,
        "shared_experts": model.num_shared_experts,
        "delay_steps": max(model.delay_pattern),
        "frame_rate_hz": _frame_rate_hz(bundle),
    }


def _frame_rate_hz(bundle: Bundle) -> float | None:
    return None if bundle.codec is None else bundle.codec["sample_rate_hz"] / bundle.codec["hop_samples"]


def describe_generation(generation: Generation, bundle: Bundle, *, repetition: int) -> dict[str, Any]:
    """One request's figures. Times are milliseconds; `rtf` is compute seconds per second of audio."""
    breakdown = generation.breakdown
    rate_hz = None if bundle.codec is None else bundle.codec["sample_rate_hz"]
    audio_s = sum(chunk.samples for chunk in generation.chunks) / rate_hz if rate_hz else None
    plays = []
    for utterance in range(len(generation.num_frames_U)):
        chunks = [chunk for chunk in generation.chunks if chunk.utterance == utterance]
        if rate_hz:
            plays.append(play([(chunk.ready_ms, 1e3 * chunk.samples / rate_hz) for chunk in chunks]))
    heard = [played for played in plays if played is not None]
    first_step = next((chunk.step for chunk in generation.chunks if chunk.samples), generation.chunks[0].step)
    compute_ms = generation.prepare_ms + generation.measured_ms
    frames = sum(generation.num_frames_U)
    return {
        "task": generation.request.task,
        "caption": generation.caption,
        "seed": generation.request.seed,
        "repetition": repetition,
        "utterances": len(generation.num_frames_U),
        "prompt_tokens": generation.prompt_tokens,
        "prepare_ms": generation.prepare_ms,
        "prefill_ms": breakdown.prefill_ms,
        # Of several utterances, the one with the longest wait; without a codec, the first chunk of frames.
        "ttfa_ms": max((played.first_ms for played in heard), default=generation.chunks[0].ready_ms),
        "ttfa_steps": first_step + 1,
        "compute_ms": compute_ms,
        "audio_s": audio_s,
        "rtf": compute_ms / 1e3 / audio_s if audio_s else None,
        "steps": generation.num_steps,
        "frames": frames,
        "frames_per_s": frames / (breakdown.decode_ms / 1e3),
        "underruns": sum(played.underruns for played in heard) if heard else None,
        "stalled_ms": sum(played.stalled_ms for played in heard) if heard else None,
        "slack_ms": min((played.slack_ms for played in heard if played.slack_ms is not None), default=None),
        "coverage": generation.coverage,
        "energy_j": generation.energy_j,
        "step_ms": _rounded(breakdown.step_ms_S),
        "chunks": [
            {"utterance": chunk.utterance, "step": chunk.step, "frames": chunk.frames, "ready_ms": chunk.ready_ms}
            for chunk in generation.chunks
        ],
    }


def describe_setting(
    bundle: Bundle,
    generations: Sequence[Generation],
    *,
    reads_bytes_per_s: Sequence[float],
    reads_model_bytes_per_s: Sequence[float],
) -> dict[str, Any]:
    """Figures over all measured generations of a setting: steps, parts, layers, tasks, floor.

    From inputs to head the parts come from the steps that were recorded call by call, scaled to the mean of all steps.
    """
    num_steps = sum(generation.num_steps for generation in generations)
    step_ms = np.concatenate([generation.breakdown.step_ms_S for generation in generations])
    detailed_S = np.concatenate([generation.breakdown.detailed_S for generation in generations])
    parts_SP = np.concatenate([generation.breakdown.parts_SP for generation in generations])
    model_ms_S = np.concatenate([generation.breakdown.model_ms_S for generation in generations])
    part_ms, num_detailed = parts_SP.mean(axis=0), int(detailed_S.sum())
    scale = float(model_ms_S.mean() / model_ms_S[detailed_S].mean())
    part_ms[list(MODEL_PARTS)] = scale * parts_SP[detailed_S][:, list(MODEL_PARTS)].mean(axis=0)
    by_part = {part.name.lower(): float(part_ms[part]) for part in DECODE_PARTS}
    wall_ms = sum(by_part.values())
    routing = joined_routing(generations)
    launches_LR = np.sum([generation.breakdown.launches_LR for generation in generations], axis=0) / num_detailed
    cached = sum(
        generation.num_steps * (generation.prompt_tokens + generation.num_steps / 2) for generation in generations
    )
    errors = errors_of_means(generations, expert_bytes(bundle))
    bytes_by_part, bytes_L = step_bytes(
        bundle, launches_a_step_LR=launches_LR, rows=generations[0].num_rows, cached=cached / num_steps
    )
    return {
        "step": {
            "count": num_steps,
            "mean_ms": float(step_ms.mean()),
            "mean_error_ms": errors.step_ms,
            **{f"p{rank}_ms": float(np.percentile(step_ms, rank)) for rank in (50, 90, 99)},
            "max_ms": float(step_ms.max()),
        },
        "recording": _recording(step_ms, detailed_S),
        "parts": {
            name: {"ms_a_step": ms, "error_ms": errors.parts_ms[name], "share": ms / wall_ms}
            for name, ms in by_part.items()
        },
        "coverage": min(generation.coverage for generation in generations),
        "means_errors": {"launched": errors.launched, "null_share": errors.null_share, "bytes": errors.bytes},
        "layers": [
            {**layer, **{name: values[index] for name, values in errors.layers.items()}}
            for index, layer in enumerate(_layers(generations, routing, bytes_L, scale / num_detailed))
        ],
        "tasks": _tasks(generations),
        "timeline": _timelines(generations),
        "floor": _floor(
            bundle, bytes_by_part, by_part, float(step_ms.mean()), reads_bytes_per_s, reads_model_bytes_per_s
        ),
    }


def _recording(step_ms_S: NDArray[np.float64], detailed_S: NDArray[np.bool_]) -> dict[str, Any]:
    """The number of steps that were recorded call by call, and the cost of that: the excess of their median, spread
    over all steps, and two standard errors of it; None without other steps for the comparison."""
    share = float(detailed_S.mean())
    if share == 1:
        return {"steps": len(detailed_S), "cost": None, "cost_error": None}
    detailed, others = step_ms_S[detailed_S], step_ms_S[~detailed_S]
    usual = float(np.median(others))
    errors = [1.25 * 1.48 * np.median(np.abs(one - np.median(one))) / np.sqrt(len(one)) for one in (detailed, others)]
    return {
        "steps": len(detailed),
        "cost": share * (float(np.median(detailed)) / usual - 1),
        "cost_error": 2 * share * float(np.hypot(*errors)) / usual,
    }


def _floor(
    bundle: Bundle,
    bytes_by_part: Mapping[str, float],
    ms_by_part: Mapping[str, float],
    step_ms: float,
    reads: Sequence[float],
    reads_model: Sequence[float],
) -> dict[str, Any]:
    """The comparison with the floor, every reading of the bandwidth, and the bandwidth over the model's own number of
    bytes, which shows the possible gain where these fit into the cache."""
    low, median, high = np.percentile(reads, [25, 50, 75])
    floor = compare_with_floor(bytes_by_part, ms_by_part, step_ms, float(median))
    model_sized = float(np.median(reads_model))
    cache = last_level_cache_bytes()
    return {
        **floor,
        "reads_bytes_per_s": list(map(float, reads)),
        "read_spread": float((high - low) / median),
        "model_sized_bytes_per_s": model_sized,
        "model_sized_floor_ms": 1e3 * floor["bytes_a_step"] / model_sized,
        "fits_cache": cache is not None and floor["bytes_a_step"] < cache,
    }


def _layers(
    generations: Sequence[Generation], routing: Routing, bytes_L: NDArray[np.float64], scale: float
) -> list[dict[str, Any]]:
    ms_LP = np.sum([generation.breakdown.layers_LP for generation in generations], axis=0) * scale
    launched_L, picked_L, null_L = routing.launched_mean_L(), routing.picked_a_row_L(), routing.null_share_L()
    return [
        {
            "layer": layer,
            **{f"{part.name.lower()}_ms": float(ms_LP[layer, part]) for part in _LAYER_PARTS},
            "launched": float(launched_L[layer]),
            "launched_histogram": histogram,
            "picked_a_row": float(picked_L[layer]),
            "null_share": float(null_L[layer]),
            "bytes": float(bytes_L[layer]),
        }
        for layer, histogram in enumerate(routing.launched_histogram_L())
    ]


def _tasks(generations: Sequence[Generation]) -> dict[str, Any]:
    """By domain: the number of experts that ran, and each expert's share of the steps."""
    tasks = {}
    for task in dict.fromkeys(generation.request.task for generation in generations):
        of_task = [generation for generation in generations if generation.request.task == task]
        routing = joined_routing(of_task)
        tasks[task] = {
            "steps": routing.num_steps,
            "launched_a_step": float(routing.launched_mean_L().sum()),
            "picked_a_row": float(routing.picked_a_row_L().sum()),
            "null_share": routing.null_share(),
            "launched_histogram": routing.launched_histogram_L(),
            "launch_share": [_rounded(row) for row in routing.launch_share_LR()],
        }
    return tasks


def _timelines(generations: Sequence[Generation]) -> list[dict[str, Any]]:
    """The last generation of each request, in milliseconds: every step, the codec's time after it, and the parts of the
    steps that were recorded call by call."""
    last = {generation.request: generation for generation in generations}
    return [
        {
            "task": generation.request.task,
            "caption": generation.caption,
            "step_ms": _rounded(breakdown.step_ms_S),
            "codec_ms": _rounded(breakdown.parts_SP[:, Part.CODEC]),
            "recorded": np.flatnonzero(breakdown.detailed_S).tolist(),
            "parts": {
                part.name.lower(): _rounded(breakdown.parts_SP[breakdown.detailed_S, part]) for part in STEP_PARTS
            },
        }
        for generation in last.values()
        for breakdown in (generation.breakdown,)
    ]


_COUNTS = ("uses", "misses", "loaded_ahead", "used_ahead", "predicted", "predicted_hits", "stall_s")


def describe_residency(before: ExpertCacheStats | None, after: ExpertCacheStats | None) -> dict[str, float] | None:
    """The expert cache's statistics between two readings; None without a budget."""
    if after is None:
        return None
    counts = {name: getattr(after, name) - (getattr(before, name) if before else 0) for name in _COUNTS}
    return replace(after, **counts).figures()


def describe_memory(
    peak: Memory | None, readings: Sequence[tuple[float, Memory]], device_bytes: int | None
) -> dict[str, Any] | None:
    """Host memory after warming up and one repetition, and readings over time: seconds, bytes.

    `device_peak_bytes`: the memory on a device at that time, for backends with a device, whose pools never shrink;
    None where it is not reported.
    """
    if peak is None:
        return None
    return {
        "peak_bytes": peak.peak,
        "anonymous_bytes": peak.anonymous,
        "file_bytes": peak.file,
        "device_peak_bytes": device_bytes,
        "curve": [
            {"at_s": at_s, "anonymous_bytes": memory.anonymous, "file_bytes": memory.file} for at_s, memory in readings
        ],
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Rounded to four decimals: a tenth of a microsecond."""
    return [round(float(value), 4) for value in values]
