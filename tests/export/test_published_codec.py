"""The codec of a published folder: its possible places, and voice prompts and audio through its bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from tests.public_folder import write_public_folder
from tests.random_dac import TINY, write_random_dac
from unimoe.cli.export import export
from unimoe.codec.conversion import as_codec_folder
from unimoe.codec.dac import DacCodec, import_dac
from unimoe_export.exporter import export_bundle
from unimoe_export.published_codec import WEIGHT_FILES, find_codec
from unimoe_runtime.audio.files import read_audio
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import CheckpointError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder without a codec."""
    return write_public_folder(tmp_path_factory.mktemp("published") / "folder")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_dac(tmp_path_factory.mktemp("dac") / "weights_16khz.pth")


@pytest.mark.parametrize("file", WEIGHT_FILES)
def test_the_weight_file_is_found_where_the_published_code_keeps_it(tmp_path: Path, weights: Path, file: str) -> None:
    published = write_public_folder(tmp_path / "folder")
    checkpoint = open_checkpoint(published)
    assert find_codec(checkpoint) is None
    (published / file).parent.mkdir(parents=True, exist_ok=True)
    (published / file).write_bytes(weights.read_bytes())
    assert find_codec(checkpoint) == published / file
    assert find_codec(checkpoint, weights) == weights
    import_dac(weights, published / "codec")
    assert find_codec(open_checkpoint(published)) == published / "codec"


def test_without_a_codec_the_bundle_says_how_to_add_one(folder: Path, weights: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(export, [str(folder), str(tmp_path / "silent")])
    assert done.exit_code == 0 and open_bundle(tmp_path / "silent").codec is None
    assert "warning: it has no codec, so no sound: export again with --codec weights_16khz.pth" in done.output
    done = CliRunner().invoke(export, [str(folder), str(tmp_path / "bundle"), "--codec", str(weights)])
    assert done.exit_code == 0 and "no codec" not in done.output
    codec = open_bundle(tmp_path / "bundle").codec
    assert codec is not None and codec["kind"] == "dac"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "numpy"])
def test_a_voice_prompt_of_any_rate_becomes_the_codes_of_torch(
    folder: Path, weights: Path, tmp_path: Path, backend: str
) -> None:
    with as_codec_folder(weights) as codec_dir:
        result = export_bundle(folder, tmp_path / "bundle", codec=codec_dir)
    assert result.largest_error is not None and result.largest_error < 1e-4
    time_L = np.arange(24_000) / 48_000
    stereo_LC = np.stack([np.sin(2 * np.pi * 300 * time_L), np.sin(2 * np.pi * 500 * time_L)], axis=1)
    soundfile.write(tmp_path / "voice.flac", 0.4 * stereo_LC, 48_000)
    pcm_L = read_audio(tmp_path / "voice.flac", 16_000)
    reference = DacCodec.from_published(weights)
    bundle = open_bundle(tmp_path / "bundle")
    codec = BundleCodec(bundle.codec, open_backend(backend, bundle).run)
    codes_KT = codec.encode(pcm_L)
    decoded_L = codec.decode(codes_KT)
    expected_BKT = reference.encode(torch.from_numpy(pcm_L)[None])
    assert codes_KT.shape == (4, 25)
    np.testing.assert_array_equal(codes_KT, expected_BKT[0].numpy())
    np.testing.assert_allclose(decoded_L, reference.decode(expected_BKT)[0].numpy(), rtol=0, atol=1e-5)


def test_a_codec_that_does_not_fit_the_model_is_one_line(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    with pytest.raises(
        CheckpointError, match=r"no\.pth: is no codec: give DAC's weights_16khz\.pth, or a codec folder"
    ):
        export_bundle(folder, bundle, codec=tmp_path / "no.pth")
    few = write_random_dac(tmp_path / "few.pth", {**TINY, "n_codebooks": 3})
    with (
        pytest.raises(CheckpointError, match=r"few\.pth: the codec has 3 codebooks, 4 are wanted"),
        as_codec_folder(few) as codec_dir,
    ):
        export_bundle(folder, bundle, codec=codec_dir)
    short = write_random_dac(tmp_path / "short.pth", {**TINY, "codebook_size": 512})
    with (
        pytest.raises(CheckpointError, match=r"short\.pth: the codec has 512 codes a codebook, the model speaks 1024"),
        as_codec_folder(short) as codec_dir,
    ):
        export_bundle(folder, bundle, codec=codec_dir)
    assert not bundle.exists()


def test_the_exporter_takes_no_weight_file(folder: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights_16khz\.pth: is a weight file; convert it into a codec folder"):
        export_bundle(folder, tmp_path / "bundle", codec=weights)
