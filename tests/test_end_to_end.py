"""The whole pipeline, small: train a codec and a model, save, export, verify, synthesize, compare with torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.command_line import output_of
from tests.runtime.frontend.small_frontend import write_frontend
from unimoe.checkpoint import CheckpointParts, load_model, save_checkpoint
from unimoe.codec.base import load_codec
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.settings import CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.codec.training import train_codec
from unimoe.config import preset
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.data.melodies import Note, note_name
from unimoe.generate import TorchLanguageModel
from unimoe.training.examples import encode_items, make_examples
from unimoe.training.settings import TrainingConfig
from unimoe.training.trainer import Trainer
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.model.generation import collect_frames, generate
from unimoe_runtime.synthesis.chunks import FADE_S
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

RATE_HZ = 16000
REQUEST = "flute, 120 bpm: C4 E4 G4"


def write_corpus(folder: Path, num_clips: int) -> Corpus:
    """Melodies of three sine tones: music that needs no synthesizer."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    clips, items = [], []
    for _ in range(num_clips):
        pitches = [int(pitch) for pitch in rng.integers(60, 72, size=3)]
        notes = [Note(pitch=pitch, start_s=0.1 + 0.5 * i, end_s=0.55 + 0.5 * i) for i, pitch in enumerate(pitches)]
        time_L = np.arange(int(1.9 * RATE_HZ)) / RATE_HZ
        tones = [
            0.2 * np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * time_L)
            * ((time_L >= note.start_s) & (time_L < note.end_s))
            for note in notes
        ]  # fmt: skip
        clips.append(np.sum(tones, axis=0))
        items.append({
            "source": "flute", "domain": "music", "kind": "melody", "text": " ".join(map(note_name, pitches)),
            "split": "train", "length": len(time_L), "instrument": "flute", "tempo_bpm": 120,
            "notes": [asdict(note) for note in notes],
        })  # fmt: skip
    offsets = write_audio(folder / "flute.npy", clips)
    rows = [{**item, "offset": offset} for item, offset in zip(items, offsets, strict=True)]
    write_index(folder, rows, sample_rate_hz=RATE_HZ, licences={"flute": "made here"}, seed=0)
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec and a token model, each trained for a few seconds."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("training")
    corpus = write_corpus(folder / "corpus", num_clips=16)
    shape = ConvNeXtCodecConfig(
        width=24, intermediate_size=48, num_encoder_blocks=1, num_decoder_blocks=1, latent_size=8,
        num_codebooks=2, codebook_size=16, num_bands=40, synthesis_frames=2,
    )  # fmt: skip
    steps = CodecTraining(num_steps=12, warmup_steps=2, codebooks_from_step=4, batch_size=4, segment_frames=20)
    train_codec(CodecTrainer(shape, steps, corpus), folder / "codec-run")
    codec_dir = folder / "codec-run" / "codec"
    frontend = open_frontend(write_frontend(folder / "frontend"))
    assert isinstance(frontend, TimelineFrontEnd)
    config = preset("tiny", text_vocab_size=len(frontend.tokens))
    codes = encode_items(corpus.items, load_codec(codec_dir), folder / "codes.npz")
    training = TrainingConfig(num_steps=30, warmup_steps=5, batch_size=4, guide_layers=(1,), num_threads=1)
    trainer = Trainer(config, training, make_examples(list(corpus), codes, frontend, config))
    trainer.run(folder / "model")
    sampling = SamplingConfig(guidance_scale=1.5, temperature=0.8, top_k=8, min_steps=0, max_steps=300)
    parts = CheckpointParts(codec_dir=codec_dir, frontend_dir=folder / "frontend")
    of_each = {"speech": sampling, "music": sampling}
    save_checkpoint(folder / "checkpoint", trainer.model, parts, sampling=of_each, dtype=torch.bfloat16)
    return folder / "checkpoint"


@pytest.mark.slow
def test_train_export_verify_synthesize(checkpoint: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    output_of("export", checkpoint, bundle)
    output_of("inspect", bundle, "--check")
    others: list[list[str | Path]] = [[], ["--against", checkpoint]]
    for other in others:
        agreement = json.loads(output_of("verify", bundle, *other, "--json"))["agreement"]
        assert agreement["steps"] == 200
        assert agreement["first_difference"] is None
        assert agreement["equal_sets"] == 1.0
    shown = output_of("synth", bundle, "--task", "music", "--text", REQUEST, "--seed", "7", "-o", tmp_path / "out.flac")
    assert "experts launched a step" in shown
    pcm_L, rate_hz = soundfile.read(tmp_path / "out.flac")
    assert rate_hz == RATE_HZ
    assert len(pcm_L) % 320 == 0 and np.abs(pcm_L).max() > 0


@pytest.mark.slow
def test_calibrate_judge_synthesize(checkpoint: Path, tmp_path: Path) -> None:
    """Calibrated on its own output, the quantized bundle stays near the float bundle and still plays."""
    bundle, quantized = tmp_path / "bundle", tmp_path / "int8"
    output_of("export", checkpoint, bundle)
    requests = [f"flute, 120 bpm: {notes}" for notes in ("C4 E4 G4", "G4 E4 C4", "D4 F4 A4")]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"task": "music", "text": text}) + "\n" for text in requests))
    shown = output_of("calibrate", bundle, quantized, "--data", data, "--floor", "8", "--cache", tmp_path / "cache")
    assert "tokens that each expert received" in shown
    output_of("inspect", quantized, "--check")
    limits = ("--limit", "router-agreement", "0.9", "--limit", "size", "0.6", "--limit", "kl", "0.1")
    report = json.loads(output_of("verify", quantized, "--against", bundle, "--steps", "60", *limits, "--json"))
    assert report["passed"] and report["comparison"]["spectral_db"] >= 0
    assert report["comparison"]["graph_bytes"] < report["comparison"]["reference_graph_bytes"]
    output_of("synth", quantized, "--task", "music", "--text", REQUEST, "-o", tmp_path / "out.wav")


@pytest.mark.slow
def test_the_bundle_plays_what_torch_plays(checkpoint: Path, tmp_path: Path) -> None:
    """With the same seed, the bundle gives the same codes and samples as the checkpoint in torch."""
    output_of("export", checkpoint, tmp_path / "bundle")
    with Synthesizer.open(tmp_path / "bundle") as synthesizer:
        played = synthesizer.synthesize(SynthesisRequest(task="music", text=REQUEST, seed=3))
        config = synthesizer.bundle.model
        prepared = synthesizer.frontend.build_prompt("music", REQUEST)
        sampling = prepared.limit(synthesizer.bundle.sampling["music"], max_delay=max(config.delay_pattern))
    model = TorchLanguageModel(load_model(checkpoint))
    [codes_TK] = collect_frames(generate(model, prepared.prompt, config, sampling, seed=3))
    np.testing.assert_array_equal(played.codes_TK, codes_TK)
    with torch.inference_mode():
        pcm_BL = load_codec(checkpoint / "codec").decode(torch.from_numpy(codes_TK.T[None].copy()))
    kept = len(played.pcm_L) - (0 if played.ended else round(FADE_S * played.sample_rate_hz))  # what is cut off fades
    np.testing.assert_allclose(played.pcm_L[:kept], pcm_BL[0, :kept].numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_oracle_plays_the_same(checkpoint: Path, tmp_path: Path) -> None:
    """The numpy backend with its codec gives the same codes, samples and encoding from the same seed."""
    output_of("export", checkpoint, tmp_path / "bundle")
    played = []
    for backend in ("onnxruntime", "numpy"):
        with Synthesizer.open(tmp_path / "bundle", backend=backend) as synthesizer:
            played.append(synthesizer.synthesize(SynthesisRequest(task="music", text=REQUEST, seed=5)))
    np.testing.assert_array_equal(played[0].codes_TK, played[1].codes_TK)
    np.testing.assert_allclose(played[0].pcm_L, played[1].pcm_L, atol=1e-5)
    bundle = open_bundle(tmp_path / "bundle")
    encoded = [
        BundleCodec(bundle.codec, open_backend(name, bundle).run).encode(played[0].pcm_L[:16000])
        for name in ("onnxruntime", "numpy")
    ]
    assert (encoded[0] == encoded[1]).mean() > 0.99  # a frame may lie between two codes


@pytest.mark.slow
def test_what_cannot_be_played_is_said_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    from tests.command_line import assert_one_line, run

    output_of("export", checkpoint, tmp_path / "bundle")
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"this is no audio")
    cases: list[tuple[list[str | Path], str]] = [
        (["--text", ""], "the text is empty"),
        (["--text", "!!!"], "nothing to say"),
        (["--task", "music", "--text", "C4 " * 500], "the limit is"),
        (["--text", "cat", "--voice", "nobody"], "there is no voice"),
        (["--text", "cat", "--voice", noise], "cannot be read as audio"),
        (["--task", "music", "--text", "tuba: C4"], "tuba"),
        (["--text", "cat", "--voice", "9"], "there is no voice"),
    ]
    for arguments, message in cases:
        assert_one_line(run("synth", tmp_path / "bundle", "-o", tmp_path / "out.wav", *arguments), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "noise.wav"]
