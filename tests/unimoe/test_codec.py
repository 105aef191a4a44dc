"""Our codec: shapes, causality, streaming, files, and that training lowers the loss."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from unimoe.codec.base import load_codec
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec, band_weights
from unimoe.codec.quantizer import ResidualQuantizer
from unimoe.codec.spectral import EnvelopeDistance, SpectralDistance
from unimoe.codec.training import CodecTrainer, CodecTraining, train_codec
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.training.material import make_codec
from unimoe_runtime.errors import CheckpointError, ConfigError

SMALL = ConvNeXtCodecConfig(
    width=32, intermediate_size=48, num_encoder_blocks=1, num_decoder_blocks=2, latent_size=8, codebook_size=16
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=[1, 2], ids=["one spectrum a frame", "two spectra a frame"])
def codec(request: pytest.FixtureRequest) -> ConvNeXtCodec:
    torch.manual_seed(0)
    codec = ConvNeXtCodec(replace(SMALL, synthesis_frames=request.param)).eval()
    codec.codebooks.weight.normal_()
    return codec


@pytest.fixture
def codes_BKT() -> torch.Tensor:
    return torch.randint(0, 16, (2, 4, 23), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (320, 1), (321, 2), (3200, 10)])
def test_shapes(codec: ConvNeXtCodec, num_samples: int, num_frames: int) -> None:
    codes = codec.encode(torch.randn(3, num_samples))
    assert codes.shape == (3, 4, num_frames) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < codec.codebook_size
    assert codec.decode(codes).shape == (3, num_frames * codec.hop_samples)


def test_later_codes_leave_earlier_audio_unchanged(codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    changed = codes_BKT.clone()
    changed[..., 10:] = (changed[..., 10:] + 1) % 16
    one, other = codec.decode(codes_BKT), codec.decode(changed)
    assert torch.equal(one[:, :3200], other[:, :3200])
    assert not torch.allclose(one[:, 3200:3520], other[:, 3200:3520])


def test_the_encoder_looks_three_hops_ahead(codec: ConvNeXtCodec) -> None:
    pcm = torch.randn(1, 6400)
    changed = pcm.clone()
    changed[:, 3200:] = 0
    one, other = codec.encoder.encode(pcm), codec.encoder.encode(changed)
    assert torch.allclose(one[:, :7], other[:, :7], atol=1e-6)
    assert not torch.allclose(one[:, 7], other[:, 7], atol=1e-6)


@pytest.mark.parametrize("chunks", [[1] * 23, [1, 2, 20], [23], [7, 16]])
def test_streamed_audio_equals_offline_audio(codec: ConvNeXtCodec, codes_BKT: torch.Tensor, chunks: list[int]) -> None:
    state = codec.initial_state(2)
    pieces = []
    for part in codes_BKT.split(chunks, dim=-1):
        pcm, state = codec.decode_step(part, state)
        pieces.append(pcm)
    assert (torch.cat(pieces, dim=1) - codec.decode(codes_BKT)).abs().max() <= 1e-5


def test_rows_do_not_touch_each_other(codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    assert torch.allclose(codec.decode(codes_BKT)[1:], codec.decode(codes_BKT[1:]), atol=1e-6)


def test_analysis_and_synthesis_windows_reconstruct() -> None:
    """hann x hann / 1.5 over four hops adds up to 1, so the true spectrum would give the true samples."""
    codec = ConvNeXtCodec(SMALL)
    analysis, synthesis = codec.encoder.window, codec.decoder.window
    assert torch.allclose((analysis * synthesis).reshape(4, -1).sum(0), torch.ones(320), atol=1e-6)


def test_each_of_two_spectra_sounds_for_four_half_hops(codec: ConvNeXtCodec) -> None:
    """A decoder whose head makes the same spectrum each time repeats with the synthesis hop, between the ends."""
    with torch.no_grad():
        codec.decoder.head.weight.zero_()
        codec.decoder.head.bias.copy_(codec.decoder.head.bias[: 2 * codec.config.num_synthesis_bins].repeat(
            codec.config.synthesis_frames
        ))  # fmt: skip
    pcm_L = codec.decode(torch.zeros(1, 4, 9, dtype=torch.int64))[0]
    hop = codec.config.synthesis_hop_samples
    inner_NH = pcm_L[3 * hop :].reshape(-1, hop)
    assert torch.allclose(inner_NH, inner_NH[:1].expand_as(inner_NH), atol=1e-6) and inner_NH.abs().max() > 1e-3
    assert not torch.allclose(pcm_L[:hop], inner_NH[0], atol=1e-3)


def test_bands_cover_the_spectrum() -> None:
    weight_FM = band_weights(ConvNeXtCodecConfig())
    assert weight_FM.shape == (641, 100)
    assert weight_FM.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert (weight_FM[5:-1].sum(axis=1) > 0).all()


def test_files_round_trip(tmp_path: Path, codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    codec.save(tmp_path, torch.float32)
    again = load_codec(tmp_path)
    assert torch.equal(again.decode(codes_BKT), codec.decode(codes_BKT))
    assert (again.sample_rate_hz, again.hop_samples, again.num_codebooks, again.codebook_size) == (16000, 320, 4, 16)


def test_a_codec_that_is_there_is_not_written_again(tmp_path: Path, codec: ConvNeXtCodec) -> None:
    codec.save(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(before) == {"config.json", "model.safetensors"}
    codec.save(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_bfloat16_files_sound_alike(tmp_path: Path, codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    codec.save(tmp_path)
    assert all(tensor.dtype == torch.bfloat16 for tensor in load_file(tmp_path / "model.safetensors").values())
    real, made = codec.decode(codes_BKT), load_codec(tmp_path).decode(codes_BKT)
    assert (real - made).norm() / real.norm() < 0.05


def test_size_of_the_default_codec() -> None:
    assert sum(tensor.numel() for tensor in ConvNeXtCodec(ConvNeXtCodecConfig()).state_dict().values()) < 2.6e6


def test_the_first_codebooks_alone_are_a_codec_of_the_same_first_codes(codec: ConvNeXtCodec) -> None:
    pcm_BL = torch.randn(1, 4 * codec.hop_samples, generator=torch.Generator().manual_seed(3))
    kept = codec.with_codebooks(2)
    assert kept.config.num_codebooks == kept.num_codebooks == 2
    assert torch.equal(kept.encode(pcm_BL), codec.encode(pcm_BL)[:, :2])
    with pytest.raises(ConfigError, match="5 of them cannot be kept"):
        codec.with_codebooks(5)


def test_broken_folders_have_one_line_errors(tmp_path: Path, codec: ConvNeXtCodec) -> None:
    with pytest.raises(CheckpointError, match="no codec configuration"):
        load_codec(tmp_path)
    codec.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["decoder.head.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder\.head\.bias") as caught:
        load_codec(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "tape"}))
    with pytest.raises(CheckpointError, match="'tape'"):
        load_codec(tmp_path)


def test_configuration_is_validated() -> None:
    with pytest.raises(ConfigError, match="window_samples is 1024"):
        ConvNeXtCodecConfig(window_samples=1024)
    with pytest.raises(ConfigError, match="num_codebooks is 0"):
        ConvNeXtCodecConfig(num_codebooks=0)
    with pytest.raises(ConfigError, match="synthesis_frames is 3; it must divide hop_samples, 320"):
        ConvNeXtCodecConfig(synthesis_frames=3)
    assert ConvNeXtCodecConfig.from_dict(SMALL.to_dict()) == SMALL


def test_quantizer_learns_clusters_and_revives_dead_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer(2, 8, 4)
    centres = torch.randn(8, 4, generator=generator) * 5
    latent = (centres[torch.randint(8, (400,), generator=generator)])[None]
    latent = latent + 0.1 * torch.randn(latent.shape, generator=generator)
    quantizer.initialise(latent[0], generator)
    quantizer.weight[0, 0] = 1000.0  # a code that nothing can choose
    quantizer.sum_KVD[0, 0] = 0.0
    quantizer.usage_KV[0, 0] = 0.0
    for _ in range(200):
        quantizer(latent, generator)
    assert quantizer.weight.abs().max() < 100
    error = (quantizer.decode(quantizer.encode(latent)) - latent).square().mean()
    assert error < 0.02 * latent.var()


def test_straight_through_gradient_is_the_identity() -> None:
    quantizer = ResidualQuantizer(2, 8, 4)
    quantizer.weight.normal_()
    latent = torch.randn(1, 5, 4, requires_grad=True)
    quantized, _ = quantizer(latent, torch.Generator())
    quantized.sum().backward()
    assert torch.equal(latent.grad, torch.ones_like(latent))


def test_distance_is_zero_for_the_same_audio_and_grows_with_a_semitone() -> None:
    distance = SpectralDistance(16000)
    time_L = torch.arange(8000) / 16000
    tone, near, far = (torch.sin(2 * torch.pi * f * time_L)[None] * 0.3 for f in (440.0, 441.0, 466.2))
    assert distance(tone, tone) == 0
    assert distance(near, tone) < 0.5 * distance(far, tone)


def test_envelopes_do_not_hear_level_but_hear_beats_that_are_not_there() -> None:
    distance = EnvelopeDistance(16000)
    time_L = torch.arange(16000) / 16000
    spoken_L = torch.sin(2 * torch.pi * 500 * time_L) * (1 + torch.sin(2 * torch.pi * 5 * time_L))
    beating_L = spoken_L * (1 + 0.8 * torch.sin(2 * torch.pi * 27 * time_L))
    assert distance(0.5 * spoken_L[None], spoken_L[None]) < 0.05
    assert distance(beating_L[None], spoken_L[None]) > 0.1
    assert 0.6 < distance(torch.rand(1, 16000) - 0.5, spoken_L[None]) < 1.2


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Sines of several pitches, as speech and as music."""
    items = []
    for source, domain in (("rms", "speech"), ("flute", "music")):
        clips = [0.2 * np.sin(2 * np.pi * f * np.arange(12000) / 16000) for f in (200, 300, 400, 500)]
        for offset, clip in zip(write_audio(tmp_path / f"{source}.npy", clips), clips, strict=True):
            place = {"source": source, "split": "train", "offset": offset, "length": len(clip)}
            items.append({"domain": domain, "kind": "digits", "text": "one", **place})
    write_index(tmp_path, items, sample_rate_hz=16000, licences={"rms": "none", "flute": "none"}, seed=0)
    return Corpus.open(tmp_path)


TRAINING = CodecTraining(
    num_steps=24, warmup_steps=4, codebooks_from_step=12, batch_size=2, segment_frames=24, learning_rate=4e-3
)


def test_a_short_training_lowers_the_distance(corpus: Corpus) -> None:
    losses = [step["distance"] for step in CodecTrainer(SMALL, TRAINING, corpus).steps()]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])


def test_training_goes_on_where_it_stopped(corpus: Corpus, tmp_path: Path) -> None:
    whole = CodecTrainer(SMALL, TRAINING, corpus)
    for _ in whole.steps():
        pass
    stopped = CodecTrainer(SMALL, TRAINING, corpus)
    for _ in range(14):
        stopped.train_step()
    (tmp_path / "run").mkdir()
    torch.save(stopped.state_dict(), tmp_path / "run" / "training.pt")
    resumed = train_codec(corpus, tmp_path / "run", SMALL, TRAINING)
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
    assert load_codec(tmp_path / "run" / "codec").num_codebooks == 4


def test_a_decoder_is_trained_anew_for_the_same_tokens(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = ConvNeXtCodec(SMALL).eval()
    first.codebooks.weight.normal_()
    shape = replace(SMALL, num_decoder_blocks=3, synthesis_frames=2)
    training = replace(TRAINING, codebooks_from_step=0)
    whole = CodecTrainer(shape, training, corpus, first)
    assert torch.equal(whole.codec.decoder.blocks[1].expand.weight, first.decoder.blocks[1].expand.weight)
    losses = [step["distance"] for step in whole.steps()]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])
    stopped = CodecTrainer(shape, training, corpus, first)
    for _ in range(14):
        stopped.train_step()
    (tmp_path / "run").mkdir()
    torch.save(stopped.state_dict(), tmp_path / "run" / "training.pt")
    resumed = train_codec(corpus, tmp_path / "run", shape, training, tokens_of=first)
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
    pcm_BL = corpus[0].pcm()[None]
    assert torch.equal(resumed.encode(torch.from_numpy(pcm_BL)), first.encode(torch.from_numpy(pcm_BL)))


def test_a_recipe_keeps_the_first_codebooks_and_trains_the_decoder_for_them(corpus: Corpus, tmp_path: Path) -> None:
    steps = {"num_steps": 4, "warmup_steps": 1, "batch_size": 2, "segment_frames": 24}
    fields = {
        **steps, "codebooks_from_step": 1, "kept_codebooks": 2, "shape": SMALL.to_dict(),
        "decoder": {**steps, "shape": {"num_decoder_blocks": 3, "synthesis_frames": 4}},
    }  # fmt: skip
    lines: list[str] = []
    folder = make_codec(fields, corpus, tmp_path, lines.append)
    made, first = load_codec(folder), load_codec(tmp_path / "codec-run" / "codec")
    assert isinstance(made, ConvNeXtCodec) and len(made.decoder.blocks) == 3 and made.config.synthesis_frames == 4
    pcm_BL = torch.from_numpy(corpus[0].pcm()[None])
    assert made.num_codebooks == 2 and torch.equal(made.encode(pcm_BL), first.encode(pcm_BL)[:, :2])
    assert [line.split(":")[0] for line in lines] == ["training the codec", "training the codec's decoder"]
    assert "kept_codebooks" in fields, "the recipe is read once for every stage"


def test_a_recipe_that_does_not_fit_is_one_line(corpus: Corpus, tmp_path: Path) -> None:
    steps = {"num_steps": 2, "warmup_steps": 1, "batch_size": 2, "segment_frames": 24}
    fields = {**steps, "codebooks_from_step": 1, "shape": SMALL.to_dict()}
    for wrong, said in (
        ({"steps": 3}, "CodecTraining does not know the field 'steps'"),
        ({"decoder": {"steps": 3}}, "CodecTraining does not know the field 'steps'"),
        ({"decoder": {**steps, "shape": {"blocks": 3}}}, "ConvNeXtCodecConfig does not know the field 'blocks'"),
        ({"decoder": {**steps, "shape": {"width": 48}}}, "may differ in num_decoder_blocks, synthesis_frames"),
        ({"decoder": {**steps, "shape": {"band_floor": 1e-2}}}, "may differ in num_decoder_blocks, synthesis_frames"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_codec({**fields, **wrong}, corpus, tmp_path, lambda line: None)


def test_training_refuses_another_rate(corpus: Corpus) -> None:
    config = ConvNeXtCodecConfig(sample_rate_hz=24000)
    with pytest.raises(ConfigError, match="the corpus is at 16000 Hz"):
        CodecTrainer(config, TRAINING, corpus)
