"""DAC's graphs in ONNX Runtime against recorded outputs of its package and torch, and streams against the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.export.codecs import Written, write
from tests.random_dac import PUBLISHED, write_random_dac
from unimoe.codec.conversion import as_codec_folder
from unimoe.codec.dac import DacCodec
from unimoe_runtime.backends.numpy import dac_codec
from unimoe_runtime.errors import CheckpointError

SMALL = Path(__file__).parents[3] / "vectors" / "dac_small"


def write_weight_file(path: Path, folder: Path, num_codebooks: int | None = None) -> Written:
    """The graphs of a published weight file."""
    with as_codec_folder(path) as codec_dir:
        assert codec_dir is not None
        return write(codec_dir, folder, num_codebooks)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_weight_file(SMALL / "weights.pth", tmp_path_factory.mktemp("dac_small"))


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_dac(tmp_path_factory.mktemp("dac") / "weights_16khz.pth")


@pytest.fixture(scope="module")
def tiny(tiny_file: Path) -> Written:
    """Hop 320, four strides, 1024 codes, as published; few channels."""
    return write_weight_file(tiny_file, tiny_file.parent)


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_graphs_give_what_the_package_gave(small: Written, frames: int) -> None:
    expected = load_file(SMALL / "expected.safetensors")
    codec, codes_BKT = small.codec, expected[f"{frames}.codes_BKT"]
    for row in range(2):
        np.testing.assert_array_equal(codec.encode(expected[f"{frames}.pcm_BL"][row]), codes_BKT[row])
    decoded_BL, published_BL = small.decode(codes_BKT), expected[f"{frames}.decoded_BL"]
    assert decoded_BL.shape == (2, frames * codec.hop_samples)
    np.testing.assert_allclose(decoded_BL[:, : published_BL.shape[1]], published_BL, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_graphs_equal_torch(tiny: Written, tiny_file: Path) -> None:
    codec = DacCodec.from_published(tiny_file)
    pcm_BL = 0.3 * torch.randn(2, 25 * 320, generator=torch.Generator().manual_seed(0))
    codes_BKT = codec.encode(pcm_BL)
    found_BKT = tiny.run("codec_encoder", {"pcm_BL": pcm_BL.numpy()})["codes_BKT"]
    np.testing.assert_array_equal(found_BKT, codes_BKT.numpy())
    assert len(np.unique(found_BKT)) > 20  # random weights, but the codes distinguish the samples
    decoded_BL = codec.decode(codes_BKT)
    np.testing.assert_allclose(tiny.decode(codes_BKT.numpy()), decoded_BL.numpy(), rtol=0, atol=1e-5)
    assert decoded_BL.std() > 0.02


def test_the_manifest_tells_how_far_the_decoder_sees(tiny: Written) -> None:
    manifest = tiny.graphs.manifest()
    assert (manifest["context_frames"], manifest["lookahead_frames"]) == (10, 10)
    assert manifest["decoder_state"] == [] and manifest["hop_samples"] == 320
    assert (manifest["num_codebooks"], manifest["codebook_size"], manifest["sample_rate_hz"]) == (4, 1024, 16000)


@pytest.mark.parametrize("name", ["small", "tiny"])
@given(chunks=st.lists(st.integers(0, 15), max_size=8), seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_stream_gives_the_samples_of_the_whole(
    name: str, small: Written, tiny: Written, chunks: list[int], seed: int
) -> None:
    written = {"small": small, "tiny": tiny}[name]
    codec = written.codec
    codes_KT = np.random.default_rng(seed).integers(codec.codebook_size, size=(codec.num_codebooks, sum(chunks)))
    stream = codec.stream()
    pieces = [stream.push(piece_KT) for piece_KT in np.split(codes_KT, np.cumsum(chunks, dtype=int)[:-1], axis=1)]
    given_frames = sum(map(len, pieces)) // codec.hop_samples
    assert given_frames == max(0, sum(chunks) - codec.lookahead_frames)  # no sample is held back longer than necessary
    pcm_L = np.concatenate([*pieces, stream.finish()])
    whole_L = written.decode(codes_KT[None])[0] if sum(chunks) else np.zeros(0)
    assert len(whole_L) == sum(chunks) * codec.hop_samples
    np.testing.assert_allclose(pcm_L, whole_L, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [99, 100, 101, 250])
def test_long_codes_are_decoded_in_windows(tiny: Written, frames: int) -> None:
    codes_KT = np.random.default_rng(frames).integers(1024, size=(4, frames))
    np.testing.assert_allclose(tiny.codec.decode(codes_KT), tiny.decode(codes_KT[None])[0], rtol=0, atol=1e-5)


def test_weights_lie_outside_of_the_graphs_and_lengths_are_free(tiny: Written) -> None:
    for graph in (tiny.graphs.encoder, tiny.graphs.decoder):
        onnx.checker.check_model(tiny.folder / graph.file)
        model = onnx.load(tiny.folder / graph.file, load_external_data=False)
        stored = {
            tensor.name for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
        }
        assert stored == set(load_file(tiny.folder / graph.weights))
        first = model.graph.input[0].type.tensor_type.shape.dim
        assert first[0].dim_param == "B" and first[-1].dim_param in ("L", "T")


def test_a_model_with_fewer_codebooks_gets_the_first(tiny: Written, tiny_file: Path, tmp_path: Path) -> None:
    fewer = write_weight_file(tiny_file, tmp_path, 2)
    pcm_L = np.random.default_rng(1).standard_normal(9 * 320).astype(np.float32) * 0.2
    codes_KT = fewer.codec.encode(pcm_L)
    np.testing.assert_array_equal(codes_KT, tiny.codec.encode(pcm_L)[:2])
    expected_BL = DacCodec.from_published(tiny_file).decode(torch.from_numpy(codes_KT)[None])
    np.testing.assert_allclose(fewer.codec.decode(codes_KT), expected_BL[0].numpy(), rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="has 4 codebooks, 12 are wanted"):
        write_weight_file(tiny_file, tmp_path, 12)


@pytest.mark.slow
def test_graphs_of_the_full_size_equal_torch(tmp_path: Path) -> None:
    """Random weights in the published shape: 12 codebooks, 74 million parameters."""
    path = write_random_dac(tmp_path / "weights_16khz.pth", PUBLISHED)
    codec, written = DacCodec.from_published(path), write_weight_file(path, tmp_path)
    pcm_BL = 0.1 * torch.randn(1, 6 * 320)
    codes_BKT = codec.encode(pcm_BL)
    found_KT = written.codec.encode(pcm_BL[0].numpy())
    # A later codebook codes the residual of the earlier ones, so one near tie changes all later codes of its frame.
    assert (found_KT == codes_BKT[0].numpy()).mean() > 0.9
    decoded_L = written.codec.decode(codes_BKT[0].numpy())
    np.testing.assert_allclose(decoded_L, codec.decode(codes_BKT)[0].numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_graphs_equal_the_oracle(name: str, small: Written, tiny: Written) -> None:
    written = {"small": small, "tiny": tiny}[name]
    description, hop = written.graphs.manifest(), written.codec.hop_samples
    random = np.random.default_rng(0)
    pcm_BL = 0.3 * random.standard_normal((2, 12 * hop), dtype=np.float32)
    codes_BKT = random.integers(written.codec.codebook_size, size=(2, written.codec.num_codebooks, 12))
    for graph, oracle, inputs, tolerance in (
        ("codec_encoder", dac_codec.encoder, {"pcm_BL": pcm_BL}, 0),
        ("codec_decoder", dac_codec.decoder, {"codes_BKT": codes_BKT}, 1e-5),
    ):
        expected = oracle(description, load_file(written.folder / f"{graph}.safetensors"), inputs)
        found = written.run(graph, inputs)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance)
