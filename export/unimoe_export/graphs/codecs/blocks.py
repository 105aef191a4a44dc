"""Parts that the graphs of our own codecs share: the encoder, causal stacks with state, transforms, overlap and add.

Transforms are products with fixed bases, so that every backend supports them. A frame of N samples is four consecutive
hops, and the basis turns it into real and imaginary parts; the inverse adds each quarter of a frame to its hop.

Shapes: B batch, L samples, H hop, N window (4 H), F bins, M bands, T frames, C width, I intermediate, D latent,
K codebooks, P left context of a convolution, S the part of a synthesis window past its hop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.common import (
    TO_THE_END,
    CodecGraph,
    CodecGraphs,
    States,
    StreamingGraph,
    Tensors,
    dequantize,
    finish,
    last_steps,
    quantize,
    quantizer_weights,
    write_weights,
)
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile

FACTS = ("norm_eps", "band_floor", "max_log_magnitude", "synthesis_frames")
"""Fields of config.json that the runtime reads from the manifest."""

OVERLAPS = 3  # hops of a frame that reach into later frames; a window is four hops
_OVERLAP_GAIN = 1.5  # sum of the squared Hann window over four hops
_LINEAR = tuple(f"{name}.weight" for name in ("expand", "contract", "project", "skip", "head", "upsample", "pitch"))


@dataclass(frozen=True, kw_only=True)
class DecoderKind:
    """What distinguishes the decoders of our codecs.

    `weights` turns the folder's tensors into the graph's. `build` adds the nodes from latent_BTD to the output
    `pcm_BL`, and the states. `facts`: fields of config.json for the manifest.
    """

    weights: Callable[[Tensors, Mapping[str, Any]], Tensors]
    build: Callable[[GraphBuilder, States, ir.Value, Mapping[str, Any]], None]
    facts: Sequence[str] = FACTS


def write_graphs(codec_dir: Path, out_dir: Path, num_codebooks: int | None, decoder: DecoderKind) -> CodecGraphs:
    """Write the encoder's graph, which our codecs share, and the decoder's; see `write.write_codec`."""
    config = read_shape(codec_dir)
    num_codebooks = num_codebooks or config["num_codebooks"]
    source = TensorFile(codec_dir / "model.safetensors", CheckpointError)
    of_encoder, of_decoder = quantizer_weights(list(source.float32("codebooks.weight")[:num_codebooks]))
    forward_NG, _ = transform_bases(config["window_samples"])
    write_weights(read_weights(source, "encoder.") | of_encoder | {"transform.weight": forward_NG}, out_dir, ENCODER)
    write_weights(decoder.weights(read_weights(source, "decoder."), config) | of_decoder, out_dir, DECODER)
    return describe(
        config,
        num_codebooks,
        write_encoder(out_dir, config, num_codebooks),
        write_decoder(out_dir, config, num_codebooks, decoder),
        decoder.facts,
    )


def read_shape(codec_dir: Path) -> dict[str, Any]:
    """The folder's config.json. Raises CheckpointError where the windows do not fit the hop."""
    config = {"synthesis_frames": 1, **read_json(codec_dir / "config.json", CheckpointError)}
    if config["window_samples"] != (OVERLAPS + 1) * config["hop_samples"]:
        raise CheckpointError(f"{codec_dir}/config.json: window_samples must be four times hop_samples")
    frames = config["synthesis_frames"]
    if not isinstance(frames, int) or frames < 1 or config["hop_samples"] % frames:
        raise CheckpointError(
            f"{codec_dir}/config.json: synthesis_frames must be a whole number that divides hop_samples"
        )
    return config


def transform_bases(window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The windowed transform [N, 2F] and its windowed inverse [2F, N]; real parts, then imaginary ones.

    Both apply the Hann window; the inverse divides by N and by the windows' overlap.
    """
    samples_N, bins_F = np.arange(window), np.arange(window // 2 + 1)
    hann_N = 0.5 - 0.5 * np.cos(2 * np.pi * samples_N / window)
    angle_NF = 2 * np.pi * (np.outer(samples_N, bins_F) % window) / window
    basis_NG = hann_N[:, None] * np.concatenate([np.cos(angle_NF), -np.sin(angle_NF)], axis=1)
    twice_F = np.where((bins_F == 0) | (bins_F == window // 2), 1.0, 2.0)  # a bin stands for its mirror image as well
    inverse_GN = basis_NG.T * np.tile(twice_F, 2)[:, None] / (window * _OVERLAP_GAIN)
    return basis_NG.astype(np.float32), np.ascontiguousarray(inverse_GN, dtype=np.float32)


def read_weights(source: TensorFile, prefix: str) -> Tensors:
    """One side's tensors: linear weights as [in, out], a block's scale folded into its last product."""
    tensors: Tensors = {}
    for name in source.entries:
        if not name.startswith(prefix) or name.endswith(".scale"):
            continue
        values = source.float32(name)
        if ".contract." in name:
            scale_C = source.float32(name[: name.index("contract.")] + "scale")
            values = (values.T * scale_C).T
        tensors[name] = np.ascontiguousarray(values.T if name.endswith(_LINEAR) else values)
    return tensors


def write_encoder(out_dir: Path, config: Mapping[str, Any], num_codebooks: int) -> CodecGraph:
    builder = GraphBuilder(ENCODER, out_dir / f"{ENCODER}.safetensors")
    op, constant = builder.op, builder.constant
    pcm_BL = builder.input("pcm_BL", "float32", ("B", "L"))
    hops_BTH = op("Reshape", [pcm_BL, constant([0, -1, config["hop_samples"]])])
    padded_BTH = op("Pad", [hops_BTH, constant([0, 0, 0, 0, OVERLAPS, 0])])
    quarters = [rows(builder, padded_BTH, q, q - OVERLAPS or TO_THE_END) for q in range(OVERLAPS + 1)]
    frames_BTN = op("Concat", quarters, axis=2)
    spectrum_BTG = op("MatMul", [frames_BTN, builder.weight("transform.weight")])
    real_BTF, imaginary_BTF = builder.ops("Split", [op("Mul", [spectrum_BTG, spectrum_BTG])], 2, axis=2, num_outputs=2)
    magnitude_BTF = op("Sqrt", [op("Add", [real_BTF, imaginary_BTF])])
    bands_BTM = op("MatMul", [magnitude_BTF, builder.weight("encoder.bands.weight")])
    features_BTM = op("Log", [op("Max", [bands_BTM, constant(config["band_floor"], "float32")])])
    stack = CausalStack(builder, "encoder", config)
    hidden_BTC = stack.run(op("Transpose", [features_BTM], perm=[0, 2, 1]), config["num_encoder_blocks"])
    latent_BTD = stack.linear("encoder.project", hidden_BTC)
    if builder.has_weight("encoder.skip.weight"):
        latent_BTD = op("Add", [latent_BTD, stack.linear("encoder.skip", features_BTM)])
    codes_BKT = quantize(builder, latent_BTD, num_codebooks)
    builder.output(codes_BKT, "codes_BKT", "int64", ("B", num_codebooks, "T"))
    return finish(builder, out_dir, ENCODER)


def write_decoder(out_dir: Path, config: Mapping[str, Any], num_codebooks: int, decoder: DecoderKind) -> StreamingGraph:
    builder = GraphBuilder(DECODER, out_dir / f"{DECODER}.safetensors")
    codes_BKT = builder.input("codes_BKT", "int64", ("B", num_codebooks, "T"))
    latent_BTD = dequantize(builder, codes_BKT, num_codebooks, config["codebook_size"])
    states = States(builder)
    decoder.build(builder, states, latent_BTD, config)
    state = states.finish()
    return finish(builder, out_dir, DECODER), state


def overlap_add(builder: GraphBuilder, states: States, frames_BTN: ir.Value, hop: int) -> None:
    """pcm_BL of frames: quarter q of frame t belongs to hop t + q; the part past the last frame is state."""
    op, constant = builder.op, builder.constant
    overlap_BS = states.add("overlap_BS", (OVERLAPS * hop,))
    quarters = builder.ops("Split", [frames_BTN], OVERLAPS + 1, axis=2, num_outputs=OVERLAPS + 1)
    padded = [op("Pad", [quarter, constant([0, q, 0, 0, OVERLAPS - q, 0])]) for q, quarter in enumerate(quarters)]
    hops_BTH = padded[0]
    for quarter in padded[1:]:
        hops_BTH = op("Add", [hops_BTH, quarter])
    earlier_B3H = op("Reshape", [overlap_BS, constant([0, OVERLAPS, hop])])
    begun_B3H = op("Add", [rows(builder, hops_BTH, 0, OVERLAPS), earlier_B3H])
    hops_BTH = op("Concat", [begun_B3H, rows(builder, hops_BTH, OVERLAPS, TO_THE_END)], axis=1)
    pcm_BL = op("Reshape", [rows(builder, hops_BTH, 0, -OVERLAPS), constant([0, -1])])
    builder.output(pcm_BL, "pcm_BL", "float32", ("B", "L"))
    later_B3H = rows(builder, hops_BTH, -OVERLAPS, TO_THE_END)
    states.carry("overlap_BS", op("Reshape", [later_B3H, constant([0, -1])]))


def rows(builder: GraphBuilder, x_BTH: ir.Value, start: int, end: int) -> ir.Value:
    constant = builder.constant
    return builder.op("Slice", [x_BTH, constant([start]), constant([end]), constant([1])])


def describe(
    config: Mapping[str, Any], num_codebooks: int, encoder: CodecGraph, decoder: StreamingGraph, facts: Sequence[str]
) -> CodecGraphs:
    """The two written graphs with the properties that config.json states; `facts` are fields for the manifest."""
    graph, state = decoder
    return CodecGraphs(
        kind=config["kind"],
        sample_rate_hz=config["sample_rate_hz"],
        hop_samples=config["hop_samples"],
        num_codebooks=num_codebooks,
        codebook_size=config["codebook_size"],
        encoder=encoder,
        decoder=graph,
        decoder_state=state,
        facts={name: config[name] for name in facts},
    )


class CausalStack:
    """Embedding convolution, ConvNeXt blocks and norms of one side, causal; with state in a stream.

    `side`: prefix of its tensors; `state_prefix`: of its states.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        side: str,
        config: Mapping[str, Any],
        states: States | None = None,
        state_prefix: str = "",
    ) -> None:
        self._builder = builder
        self._side = side
        self._context = config["kernel_size"] - 1
        self._epsilon = config["norm_eps"]
        self._states = states
        self._state_prefix = state_prefix

    def run(self, x_BCT: ir.Value, num_blocks: int) -> ir.Value:
        """The last norm's hidden_BTC."""
        op = self._builder.op
        hidden_BCT = self._conv(f"{self._side}.embed", x_BCT, "embed_context_BDP", group=1)
        hidden_BTC = self._norm(f"{self._side}.embed_norm", op("Transpose", [hidden_BCT], perm=[0, 2, 1]))
        for index in range(num_blocks):
            prefix = f"{self._side}.blocks.{index}"
            x_BCT = op("Transpose", [hidden_BTC], perm=[0, 2, 1])
            weight = self._builder.weight(f"{prefix}.depthwise.weight")
            assert weight.shape is not None  # weights come with their shapes
            mixed_BCT = self._conv(
                f"{prefix}.depthwise", x_BCT, f"block_{index}_context_BCP", group=int(weight.shape.numpy()[0])
            )
            y_BTC = self._norm(f"{prefix}.norm", op("Transpose", [mixed_BCT], perm=[0, 2, 1]))
            y_BTI = op("Gelu", [self.linear(f"{prefix}.expand", y_BTC)])
            hidden_BTC = op("Add", [hidden_BTC, self.linear(f"{prefix}.contract", y_BTI)])
        return self._norm(f"{self._side}.norm", hidden_BTC)

    def linear(self, name: str, x: ir.Value) -> ir.Value:
        product = self._builder.op("MatMul", [x, self._builder.weight(f"{name}.weight")])
        return self._builder.op("Add", [product, self._builder.weight(f"{name}.bias")])

    def _norm(self, name: str, x: ir.Value) -> ir.Value:
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        return self._builder.op("LayerNormalization", [x, *weights], axis=-1, epsilon=self._epsilon)

    def _conv(self, name: str, x_BCT: ir.Value, state_name: str, group: int) -> ir.Value:
        op = self._builder.op
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        if self._states is None:
            return op("Conv", [x_BCT, *weights], group=group, pads=[self._context, 0])
        shape = weights[0].shape
        assert shape is not None  # weights come with their shapes
        state_name = self._state_prefix + state_name
        context_BCP = self._states.add(state_name, (int(shape.numpy()[1]) * group, self._context))
        joined_BCT = op("Concat", [context_BCP, x_BCT], axis=2)
        self._states.carry(state_name, last_steps(self._builder, joined_BCT, self._context))
        return op("Conv", [joined_BCT, *weights], group=group)
