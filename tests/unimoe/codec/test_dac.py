"""DAC in torch against recorded outputs of its package (vectors/dac_small), and invalid weight files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.random_dac import PUBLISHED, TINY, dac_config, random_state, write_random_dac
from unimoe.codec.base import load_codec
from unimoe.codec.dac import DacCodec, import_dac
from unimoe_runtime.codec.dac_config import tensor_shapes
from unimoe_runtime.errors import CheckpointError, ConfigError

SMALL = Path(__file__).parents[2] / "vectors" / "dac_small"


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_torch_gives_what_the_package_gave(frames: int) -> None:
    expected = load_file(SMALL / "expected.safetensors")
    codec = DacCodec.from_published(SMALL / "weights.pth")
    codes_BKT = codec.encode(expected[f"{frames}.pcm_BL"])
    assert torch.equal(codes_BKT, expected[f"{frames}.codes_BKT"])
    decoded_BL = codec.decode(codes_BKT)
    assert decoded_BL.shape == (2, frames * codec.hop_samples)
    published_BL = expected[f"{frames}.decoded_BL"]
    assert published_BL.shape[1] == decoded_BL.shape[1] - codec.config.missing_samples
    torch.testing.assert_close(decoded_BL[:, : published_BL.shape[1]], published_BL, rtol=0, atol=1e-6)
    assert not decoded_BL[:, published_BL.shape[1] :].any()


def test_an_imported_folder_is_the_same_codec(tmp_path: Path) -> None:
    import_dac(SMALL / "weights.pth", tmp_path / "codec")
    published, codec = DacCodec.from_published(SMALL / "weights.pth"), load_codec(tmp_path / "codec")
    assert isinstance(codec, DacCodec) and codec.config == published.config
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_codebooks, codec.codebook_size) == (16000, 30, 3, 32)
    pcm_BL = torch.randn(1, 100)
    assert torch.equal(codec.encode(pcm_BL), published.encode(pcm_BL))


def test_the_published_size_is_known() -> None:
    """weights_16khz.pth: a hop of 320, a context of 10 frames to each side, 74 million parameters."""
    config = dac_config(PUBLISHED)
    assert (config.hop_samples, config.missing_samples, config.frames_around) == (320, 8, (10, 10))
    sizes = [torch.Size(shape).numel() for shape in tensor_shapes(config).values()]
    assert round(sum(sizes) / 1e6) == 74


@pytest.mark.slow
def test_samples_depend_on_the_frames_around_and_no_others(tmp_path: Path) -> None:
    """`frames_around` is exact: a code at its edge changes the samples, a code just outside does not."""
    codec = DacCodec.from_published(write_random_dac(tmp_path / "weights_16khz.pth"))
    before, after = codec.config.frames_around
    frame, hop = 20, codec.hop_samples
    codes_BKT = torch.randint(1024, (1, 4, 41))
    wanted_L = codec.decode(codes_BKT)[0, frame * hop : (frame + 1) * hop]
    for position, matters in ((-before - 1, False), (-before, True), (after, True), (after + 1, False)):
        changed_BKT = codes_BKT.clone()
        changed_BKT[:, :, frame + position] = (changed_BKT[:, :, frame + position] + 7) % 1024
        found_L = codec.decode(changed_BKT)[0, frame * hop : (frame + 1) * hop]
        assert torch.equal(found_L, wanted_L) != matters


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, kwargs: state.pop("decoder.model.0.weight_g"), "missing decoder.model.0.weight_g"),
        (lambda state, kwargs: state.update(more=torch.ones(1)), "extra more"),
        (lambda state, kwargs: kwargs.update(n_codebooks=5), "missing quantizer.quantizers.4.in_proj.weight_g"),
        (lambda state, kwargs: kwargs.update(codebook_size=1000), r"codebook.weight is \[1024, 8\], must be \[1000"),
        (
            lambda state, kwargs: kwargs.update(n_codebooks=10**9),
            "num_codebooks is 1000000000; it must be an integer of at least 1, at most 64",
        ),
        (lambda state, kwargs: kwargs.update(encoder_rates=[2, 4, 5, 1]), "encoder_strides\\[3\\] is 1"),
        (lambda state, kwargs: kwargs.update(codebook_dim=[8, 8]), r"codebook_width is \(8, 8\)"),
        (lambda state, kwargs: kwargs.pop("decoder_dim"), "not the weights of DAC .*'decoder_dim'"),
        (lambda state, kwargs: state.update({"encoder.block.0.bias": "zero"}), "encoder.block.0.bias is no tensor"),
        (lambda state, kwargs: state["encoder.block.0.weight_v"].zero_(), "encoder.block.0.weight holds values that"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, change: Any, message: str) -> None:
    state, kwargs = random_state(TINY), dict(TINY)
    change(state, kwargs)
    torch.save({"state_dict": state, "metadata": {"kwargs": kwargs}}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        import_dac(tmp_path / "weights.pth", tmp_path / "codec")
    assert "\n" not in str(caught.value) and not (tmp_path / "codec").exists()


def test_damaged_and_hostile_files_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights_16khz.pth"
    whole = (SMALL / "weights.pth").read_bytes()
    files = {
        "no weights": b"no weights",
        "empty": b"",
        "cut": whole[:50_000],
        "hostile": pickle.dumps(_Evil(), protocol=2),
    }
    with pytest.raises(CheckpointError, match="cannot be read"):
        DacCodec.from_published(path)
    for content in files.values():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"not a file of plain weights|cannot be read") as caught:
            DacCodec.from_published(path)
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": random_state(TINY), "metadata": {"kwargs": TINY}, "code": _Evil()}, path)
    with pytest.raises(CheckpointError, match="not a file of plain weights"):
        DacCodec.from_published(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(CheckpointError, match="not the weights of DAC"):
        DacCodec.from_published(path)
    assert "must not run" not in capsys.readouterr().out


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    import_dac(SMALL / "weights.pth", tmp_path / "codec")
    config = json.loads((tmp_path / "codec" / "config.json").read_text())
    (tmp_path / "codec" / "config.json").write_text(json.dumps(config | {"num_codebooks": 4}))
    with pytest.raises(CheckpointError, match=r"missing quantizer\.quantizers\.3"):
        load_codec(tmp_path / "codec")
    (tmp_path / "codec" / "config.json").write_text(json.dumps(config | {"decoder_width": 3}))
    with pytest.raises(CheckpointError, match="decoder_width is 3"):
        load_codec(tmp_path / "codec")
    shutil.copyfile(SMALL / "weights.pth", tmp_path / "codec" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is no DAC codec"):
        load_codec(tmp_path / "codec")
    with pytest.raises(ConfigError, match="do not undo"):
        dac_config({**TINY, "decoder_rates": [8, 5, 4, 3]})
