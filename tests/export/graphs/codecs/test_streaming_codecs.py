"""The graphs of the codecs that stream with a state, EnCodec, ConvNeXt and harmonic, against torch; streams, errors.

EnCodec is compared with recorded outputs of its package (vectors/encodec_small; tests/vectors/make_encodec_small.py),
so that the tests need no package; `tests/unimoe/codec/test_encodec.py` compares the full size if the package is
installed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.export.codecs import Written, write
from unimoe.codec.base import load_codec
from unimoe.codec.config import ConvNeXtCodecConfig, HarmonicCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.codec.harmonic import HarmonicCodec
from unimoe_export.graphs.codecs.blocks import transform_bases
from unimoe_export.graphs.codecs.write import write_codec
from unimoe_runtime.backends.numpy import harmonic_codec
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import BundleError, CheckpointError

ENCODEC = Path(__file__).parents[3] / "vectors" / "encodec_small"
SMALL = ConvNeXtCodecConfig(
    hop_samples=32, window_samples=128, num_bands=12, lowest_band_hz=400.0, width=16, intermediate_size=24,
    kernel_size=5, num_encoder_blocks=2, num_decoder_blocks=2, latent_size=8, num_codebooks=3, codebook_size=16,
)  # fmt: skip

SMALL_HARMONIC = HarmonicCodecConfig(
    hop_samples=48, window_samples=192, num_bands=12, lowest_band_hz=400.0, width=16, intermediate_size=24,
    kernel_size=5, num_encoder_blocks=2, num_decoder_blocks=2, synthesis_frames=3, inner_width=12,
    inner_intermediate_size=16, num_inner_blocks=2, latent_size=8, num_codebooks=3, codebook_size=16, noise_frames=11,
)  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2], ids=["one spectrum a frame", "two spectra a frame"])
def convnext_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small codec of ours with random weights, stored in bfloat16 as checkpoints are."""
    torch.manual_seed(0)
    codec = ConvNeXtCodec(replace(SMALL, synthesis_frames=request.param))
    with torch.no_grad():
        for name, parameter in codec.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.mul_(1.5)
        codec.codebooks.weight.normal_()
    folder = tmp_path_factory.mktemp("convnext") / "codec"
    codec.save(folder)
    return folder


@pytest.fixture(scope="module")
def convnext(convnext_dir: Path) -> Written:
    return write(convnext_dir, convnext_dir.parent)


@pytest.fixture(scope="module")
def harmonic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small harmonic codec with random weights and varying pitch."""
    torch.manual_seed(0)
    codec = HarmonicCodec(SMALL_HARMONIC)
    with torch.no_grad():
        codec.codebooks.weight.normal_()
        codec.decoder.pitch.weight.mul_(20)
    folder = tmp_path_factory.mktemp("harmonic") / "codec"
    codec.save(folder)
    return folder


@pytest.fixture(scope="module")
def harmonic(harmonic_dir: Path) -> Written:
    return write(harmonic_dir, harmonic_dir.parent)


@pytest.fixture(scope="module")
def encodec(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(ENCODEC / "codec", tmp_path_factory.mktemp("encodec"))


@pytest.mark.parametrize("frames", [1, 2, 6, 7, 8, 31])
def test_encodec_graphs_give_what_the_package_gave(encodec: Written, frames: int) -> None:
    """Lengths around the seven frames of the first convolution, where reflection needs more samples than there are."""
    expected = load_file(ENCODEC / "expected.safetensors")
    codes_BKT = expected[f"{frames}.codes_BKT"]
    np.testing.assert_array_equal(
        encodec.run("codec_encoder", {"pcm_BL": expected[f"{frames}.pcm_BL"]})["codes_BKT"], codes_BKT
    )
    np.testing.assert_allclose(encodec.decode(codes_BKT), expected[f"{frames}.decoded_BL"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", ["convnext", "harmonic"])
def test_graphs_equal_torch(
    kind: str, convnext_dir: Path, convnext: Written, harmonic_dir: Path, harmonic: Written, frames: int
) -> None:
    folder, written = {"convnext": (convnext_dir, convnext), "harmonic": (harmonic_dir, harmonic)}[kind]
    codec = load_codec(folder)
    pcm_BL = torch.randn(2, frames * codec.hop_samples, generator=torch.Generator().manual_seed(frames)) * 0.3
    codes_BKT = codec.encode(pcm_BL)
    made_BKT = written.run("codec_encoder", {"pcm_BL": pcm_BL.numpy()})["codes_BKT"]
    np.testing.assert_array_equal(made_BKT, codes_BKT.numpy())
    expected_BL = codec.decode(codes_BKT).numpy()
    np.testing.assert_allclose(written.decode(codes_BKT.numpy()), expected_BL, rtol=0, atol=1e-5)


def test_the_harmonic_oracle_equals_the_graphs(harmonic: Written) -> None:
    """Decode in two chunks, so that every state is passed on."""
    description = {**harmonic.graphs.manifest()}
    weights = load_file(harmonic.folder / "codec_decoder.safetensors")
    state = harmonic.first_state(2)
    codes_BKT = np.random.default_rng(0).integers(0, 16, (2, 3, 17))
    for part_BKT in (codes_BKT[..., :6], codes_BKT[..., 6:]):
        inputs = {"codes_BKT": part_BKT, **state}
        made = harmonic.run("codec_decoder", inputs)
        expected = harmonic_codec.decoder(description, weights, inputs)
        assert set(made) == set(expected)
        for name, value in made.items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-4, err_msg=name)
        state = {name: made[f"new_{name}"] for name in state}
    assert state["phase_B1"].dtype == np.int64 and state["phase_B1"].all()


def test_transform_bases_are_the_windowed_fourier_transform() -> None:
    forward_NG, inverse_GN = transform_bases(64)
    frame_N = np.random.default_rng(0).standard_normal(64)
    hann_N = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    spectrum_F = np.fft.rfft(frame_N * hann_N)
    both_G = np.concatenate([spectrum_F.real, spectrum_F.imag])
    np.testing.assert_allclose(frame_N @ forward_NG, both_G, atol=1e-5)
    np.testing.assert_allclose(both_G @ inverse_GN, np.fft.irfft(spectrum_F) * hann_N / 1.5, atol=1e-6)


@pytest.mark.parametrize("kind", ["encodec", "convnext", "harmonic"])
@given(chunks=st.lists(st.integers(0, 12), max_size=8), seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_stream_gives_the_samples_of_the_whole(
    kind: str, encodec: Written, convnext: Written, harmonic: Written, chunks: list[int], seed: int
) -> None:
    codec = {"encodec": encodec, "convnext": convnext, "harmonic": harmonic}[kind].codec
    shape = (codec.num_codebooks, sum(chunks))
    codes_KT = np.random.default_rng(seed).integers(0, codec.codebook_size, shape)
    stream = codec.stream()
    pieces = [stream.push(piece_KT) for piece_KT in np.split(codes_KT, np.cumsum(chunks, dtype=int)[:-1], axis=1)]
    pcm_L = np.concatenate([*pieces, stream.finish()])
    whole_L = codec.decode(codes_KT)
    assert len(whole_L) == sum(chunks) * codec.hop_samples
    np.testing.assert_allclose(pcm_L, whole_L, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["encodec", "convnext", "harmonic"])
def test_the_runtime_codec_pads_the_last_frame_and_refuses_what_is_no_code(
    kind: str, encodec: Written, convnext: Written, harmonic: Written
) -> None:
    codec = {"encodec": encodec, "convnext": convnext, "harmonic": harmonic}[kind].codec
    pcm_L = np.random.default_rng(0).standard_normal(5 * codec.hop_samples - 3).astype(np.float32) * 0.1
    codes_KT = codec.encode(pcm_L)
    assert codes_KT.shape == (codec.num_codebooks, 5)
    np.testing.assert_array_equal(codes_KT, codec.encode(np.pad(pcm_L, (0, 3))))
    assert codec.encode(pcm_L[:0]).shape == (codec.num_codebooks, 0)
    assert codec.decode(codes_KT[:, :0]).shape == (0,)
    with pytest.raises(ValueError, match="codes are 0 … 15"):
        codec.decode(np.full_like(codes_KT, codec.codebook_size))
    with pytest.raises(ValueError, match="shape"):
        codec.decode(codes_KT[:2])
    with pytest.raises(ValueError, match="mono"):
        codec.encode(pcm_L[None])


@pytest.mark.parametrize("kind", ["encodec", "convnext", "harmonic"])
def test_weights_lie_outside_of_the_graph_and_lengths_are_free(
    kind: str, encodec: Written, convnext: Written, harmonic: Written
) -> None:
    written = {"encodec": encodec, "convnext": convnext, "harmonic": harmonic}[kind]
    for graph in (written.graphs.encoder, written.graphs.decoder):
        model = onnx.load(written.folder / graph.file, load_external_data=False)
        onnx.checker.check_model(written.folder / graph.file)
        used = {name for node in model.graph.node for name in node.input}
        stored = {
            tensor.name for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
        }
        assert stored == set(load_file(written.folder / graph.weights)) <= used
        operators = {node.op_type for node in model.graph.node}
        assert "Elu" not in operators  # TensorRT does not parse it beside LSTM
        first = model.graph.input[0].type.tensor_type.shape.dim
        assert first[0].dim_param == "B" and first[-1].dim_param in ("L", "T")


def test_a_model_with_fewer_codebooks_gets_the_first(convnext: Written, convnext_dir: Path, tmp_path: Path) -> None:
    fewer = write(convnext_dir, tmp_path, 2)
    pcm_L = np.random.default_rng(1).standard_normal(9 * SMALL.hop_samples).astype(np.float32) * 0.2
    assert fewer.codec.num_codebooks == 2
    np.testing.assert_array_equal(fewer.codec.encode(pcm_L), convnext.codec.encode(pcm_L)[:2])


def test_damaged_codecs_are_refused_by_name(tmp_path: Path, convnext_dir: Path) -> None:
    with pytest.raises(CheckpointError, match="has 3 codebooks, 4 are wanted"):
        write_codec(convnext_dir, tmp_path, 4)
    codec_dir = tmp_path / "codec"
    shutil.copytree(convnext_dir, codec_dir)
    config = json.loads((codec_dir / "config.json").read_text())
    (codec_dir / "config.json").write_text(json.dumps(config | {"kind": "opus"}))
    with pytest.raises(CheckpointError, match="unknown kind 'opus'"):
        write_codec(codec_dir, tmp_path)
    for frames in (0, 3, "2"):
        (codec_dir / "config.json").write_text(json.dumps(config | {"synthesis_frames": frames}))
        with pytest.raises(CheckpointError, match="synthesis_frames"):
            write_codec(codec_dir, tmp_path)
    (codec_dir / "config.json").write_text(json.dumps(config | {"num_decoder_blocks": 9}))
    with pytest.raises(CheckpointError, match=r"it lacks 'decoder\.blocks\.2\.depthwise\.weight'"):
        write_codec(codec_dir, tmp_path)
    with pytest.raises(BundleError, match="the bundle has no codec"):
        BundleCodec(None, lambda graph, inputs: {})
    with pytest.raises(BundleError, match="'hop_samples'"):
        BundleCodec({"kind": "convnext", "sample_rate_hz": 16000}, lambda graph, inputs: {})
