"""Graphs of the harmonic codec, `unimoe.codec.harmonic` (its docstring draws the architecture).

The oscillator counts its phase in whole numbers, so chunk boundaries anywhere in a stream keep it exact to the bit.

Shapes: B batch, K codebooks, T frames, D latent, C width; S synthesis frames, c inner width, h hop, n window (4 h),
f bins, P pitch classes, I fine pitches, L samples, R rows of noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.blocks import (
    FACTS,
    OVERLAPS,
    CausalStack,
    DecoderKind,
    overlap_add,
    rows,
    transform_bases,
    write_graphs,
)
from unimoe_export.graphs.codecs.common import TO_THE_END, CodecGraphs, States, Tensors, last_steps
from unimoe_runtime.codec.oscillator import FINE_PITCHES, PHASE_STEPS, PITCH_REACH, pitch_table

_FACTS = (*FACTS, "lowest_pitch_hz", "pitches_per_octave", "num_pitches", "oscillator")
_FLAT = 1e-6  # half a phase in radians below which sin(M x) / sin(x) is M


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of a folder of this kind; see `write.write_codec`."""
    kind = DecoderKind(weights=_weights, build=_build, facts=_FACTS)
    return write_graphs(codec_dir, out_dir, num_codebooks, kind)


def _weights(decoder: Tensors, config: Mapping[str, Any]) -> Tensors:
    window = config["window_samples"] // config["synthesis_frames"]
    forward_nG, inverse_Gn = transform_bases(window)
    phase_Rf = decoder.pop("decoder.noise.phase")
    return decoder | {
        "noise.weight": np.concatenate([np.cos(phase_Rf), np.sin(phase_Rf)], axis=1),
        "analysis.weight": forward_nG * np.float32(4 / window),
        "transform.weight": inverse_Gn,
    }


def _build(builder: GraphBuilder, states: States, latent_BTD: ir.Value, config: Mapping[str, Any]) -> None:
    op, constant = builder.op, builder.constant
    hop = config["hop_samples"] // config["synthesis_frames"]
    outer = CausalStack(builder, "decoder", config, states)
    latent_BDT = op("Transpose", [latent_BTD], perm=[0, 2, 1])
    hidden_BTC = outer.run(latent_BDT, config["num_decoder_blocks"])
    envelope_BSf = _envelope(builder, states, latent_BDT, config["num_bands"])
    upsampled = outer.linear("decoder.upsample", hidden_BTC)
    rows_BSc = op("Reshape", [upsampled, constant([0, -1, config["inner_width"]])])
    inner = CausalStack(builder, "decoder.inner", config, states, "inner_")
    hidden_BSc = inner.run(op("Transpose", [rows_BSc], perm=[0, 2, 1]), config["num_inner_blocks"])
    parts = builder.ops("Split", [inner.linear("decoder.head", hidden_BSc)], 5, axis=2, num_outputs=5)
    limit = constant(config["max_log_magnitude"], "float32")
    filter_BSf, noise_BSf, free_BSf = (
        op("Exp", [op("Min", [op("Add", [part, envelope_BSf]), limit])]) for part in parts[:3]
    )
    sound = _Sound(builder, config, states)
    noise_cos_BSf, noise_sin_BSf = sound.noise(hidden_BSc)
    real_BSf = op("Mul", [noise_BSf, noise_cos_BSf]), op("Mul", [free_BSf, op("Cos", [parts[4]])])
    imaginary_BSf = op("Mul", [noise_BSf, noise_sin_BSf]), op("Mul", [free_BSf, op("Sin", [parts[4]])])
    sums = [op("Add", real_BSf), op("Add", imaginary_BSf)]
    pitch_BS = sound.fine_pitch(inner.linear("decoder.pitch", hidden_BSc))
    source = sound.source_spectrum(sound.oscillate(pitch_BS, hop), hop)
    if config["oscillator"]:
        cos_BSf, sin_BSf = op("Cos", [parts[3]]), op("Sin", [parts[3]])
        turned = _multiply(builder, (cos_BSf, sin_BSf), source)
        sums = [op("Add", [s, op("Mul", [filter_BSf, t])]) for s, t in zip(sums, turned, strict=True)]
    spectrum_BSG = op("Concat", sums, axis=2)
    overlap_add(builder, states, op("MatMul", [spectrum_BSG, builder.weight("transform.weight")]), hop)


def _envelope(builder: GraphBuilder, states: States, latent_BDT: ir.Value, num_bands: int) -> ir.Value:
    """The log envelope of the synthesis frames, computed from each latent and the two before it."""
    op, constant = builder.op, builder.constant
    weights = [builder.weight(f"decoder.envelope.{part}") for part in ("weight", "bias")]
    assert weights[0].shape is not None  # weights come with their shapes
    past = int(weights[0].shape.numpy()[2]) - 1
    joined_BDT = op("Concat", [last_steps(builder, states["embed_context_BDP"], past), latent_BDT], axis=2)
    bands_BTX = op("Transpose", [op("Conv", [joined_BDT, *weights])], perm=[0, 2, 1])
    bands_BSM = op("Reshape", [bands_BTX, constant([0, -1, num_bands])])
    return op("MatMul", [bands_BSM, builder.weight("decoder.spread.weight")])


def _multiply(
    builder: GraphBuilder, a: tuple[ir.Value, ir.Value], b: tuple[ir.Value, ir.Value]
) -> tuple[ir.Value, ir.Value]:
    """The product of two complex numbers, each as real and imaginary part."""
    op = builder.op
    real = op("Sub", [op("Mul", [a[0], b[0]]), op("Mul", [a[1], b[1]])])
    return real, op("Add", [op("Mul", [a[0], b[1]]), op("Mul", [a[1], b[0]])])


class _Sound:
    """The decoder's sources and their states: the oscillator and the noise."""

    def __init__(self, builder: GraphBuilder, config: Mapping[str, Any], states: States) -> None:
        self._builder = builder
        self._config = config
        self._states = states

    def fine_pitch(self, logits_BSP: ir.Value) -> ir.Value:
        """pitch_BS: the mean over the likeliest class and its neighbours, in fine pitches."""
        op, constant = self._builder.op, self._builder.constant
        highest_BS1 = op("ReduceMax", [logits_BSP, constant([-1])], keepdims=1)
        best_BS1 = op("ArgMax", [logits_BSP], axis=-1, keepdims=1)
        classes_P = constant(np.arange(self._config["num_pitches"]))
        distance_BSP = op("Sub", [classes_P, best_BS1])
        near_BSP = op("LessOrEqual", [op("Abs", [distance_BSP]), constant(PITCH_REACH)])
        weight_BSP = op("Exp", [op("Sub", [logits_BSP, highest_BS1])])
        weight_BSP = op("Where", [near_BSP, weight_BSP, constant(0.0, "float32")])
        weighted_BSP = op("Mul", [weight_BSP, op("Cast", [distance_BSP], to=int(ir.DataType.FLOAT))])
        sums = [op("ReduceSum", [each, constant([-1])], keepdims=0) for each in (weighted_BSP, weight_BSP)]
        fine_BS = op("Round", [op("Mul", [op("Div", sums), constant(float(FINE_PITCHES), "float32")])])
        best_BS = op("Squeeze", [op("Mul", [best_BS1, constant(FINE_PITCHES)]), constant([-1])])
        return op("Add", [best_BS, op("Cast", [fine_BS], to=int(ir.DataType.INT64))])

    def oscillate(self, pitch_BS: ir.Value, hop: int) -> ir.Value:
        """The source's samples source_BSh; state `phase_B1`."""
        op, constant, config = self._builder.op, self._builder.constant, self._config
        steps_I, lobes_I = pitch_table(
            lowest_hz=config["lowest_pitch_hz"],
            pitches_per_octave=config["pitches_per_octave"],
            num_pitches=config["num_pitches"],
            sample_rate_hz=config["sample_rate_hz"],
        )
        phase_B1 = self._states.add("phase_B1", (1,), "int64")
        steps_BS = op("Gather", [constant(steps_I), pitch_BS], axis=0)
        a_hop_BS = op("Mul", [steps_BS, constant(hop)])
        ends_BS = op("Add", [op("CumSum", [a_hop_BS, constant(1)]), phase_B1])
        last_B1 = op("Slice", [ends_BS, constant([-1]), constant([TO_THE_END]), constant([1])])
        self._states.carry("phase_B1", op("Mod", [last_B1, constant(PHASE_STEPS)]))
        starts_BS1 = op("Unsqueeze", [op("Sub", [ends_BS, a_hop_BS]), constant([2])])
        offsets_BSh = op("Mul", [op("Unsqueeze", [steps_BS, constant([2])]), constant(np.arange(hop))])
        half = PHASE_STEPS // 2
        shifted_BSh = op("Add", [op("Add", [starts_BS1, offsets_BSh]), constant(half)])
        signed_BSh = op("Sub", [op("Mod", [shifted_BSh, constant(PHASE_STEPS)]), constant(half)])
        phase_BSh = op("Cast", [signed_BSh], to=int(ir.DataType.FLOAT))
        angle_BSh = op("Mul", [phase_BSh, constant(np.pi / PHASE_STEPS, "float32")])
        lobes_BS1 = op("Unsqueeze", [op("Gather", [constant(lobes_I, "float32"), pitch_BS], axis=0), constant([2])])
        flat_BSh = op("Less", [op("Abs", [angle_BSh]), constant(_FLAT, "float32")])
        one = constant(1.0, "float32")
        below_BSh = op("Sin", [op("Where", [flat_BSh, one, angle_BSh])])
        ratio_BSh = op("Div", [op("Sin", [op("Mul", [lobes_BS1, angle_BSh])]), below_BSh])
        ratio_BSh = op("Where", [flat_BSh, lobes_BS1, ratio_BSh])
        return op("Mul", [op("Sub", [ratio_BSh, one]), constant(0.5, "float32")])

    def source_spectrum(self, source_BSh: ir.Value, hop: int) -> tuple[ir.Value, ir.Value]:
        """Real and imaginary parts of the source's windows; state `source_BS`, the three hops before the newest."""
        op, constant = self._builder.op, self._builder.constant
        past_BS = self._states.add("source_BS", (OVERLAPS * hop,))
        past_B3h = op("Reshape", [past_BS, constant([0, OVERLAPS, hop])])
        hops_BSh = op("Concat", [past_B3h, source_BSh], axis=1)
        latest_B3h = rows(self._builder, hops_BSh, -OVERLAPS, TO_THE_END)
        self._states.carry("source_BS", op("Reshape", [latest_B3h, constant([0, -1])]))
        quarters = [rows(self._builder, hops_BSh, q, q - OVERLAPS or TO_THE_END) for q in range(OVERLAPS + 1)]
        windows_BSn = op("Concat", quarters, axis=2)
        spectrum_BSG = op("MatMul", [windows_BSn, self._builder.weight("analysis.weight")])
        real_BSf, imaginary_BSf = self._builder.ops("Split", [spectrum_BSG], 2, axis=2, num_outputs=2)
        return real_BSf, imaginary_BSf

    def noise(self, hidden_BSc: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Cosines and sines of as many noise rows as `hidden_BSc` has frames; state `noise_B1`."""
        op, constant = self._builder.op, self._builder.constant
        table_RG = self._builder.weight("noise.weight")
        assert table_RG.shape is not None  # weights come with their shapes
        length = constant(int(table_RG.shape.numpy()[0]))
        position_B1 = self._states.add("noise_B1", (1,), "int64")
        num_frames = op("Gather", [op("Shape", [hidden_BSc]), constant(1)], axis=0)
        frames_S = op("Range", [constant(0), num_frames, constant(1)])
        index_BS = op("Mod", [op("Add", [position_B1, frames_S]), length])
        self._states.carry("noise_B1", op("Mod", [op("Add", [position_B1, num_frames]), length]))
        picked_BSG = op("Gather", [table_RG, index_BS], axis=0)
        cos_BSf, sin_BSf = self._builder.ops("Split", [picked_BSG], 2, axis=2, num_outputs=2)
        return cos_BSf, sin_BSf
