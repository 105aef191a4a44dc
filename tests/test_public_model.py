"""The published checkpoint's folder, in miniature, through the command line: export, verify, and all four tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from tests.command_line import assert_one_line, output_of, run
from tests.public_folder import write_public_folder
from tests.random_dac import write_random_dac
from tests.recordings import write_recording
from tests.videos import numbered, write_video
from unimoe.checkpoint import load_model
from unimoe.cli.group import cli
from unimoe.generate import TorchLanguageModel
from unimoe_runtime.backends.protocol import Array, Forward
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.model.generation import collect_frames, generate
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

RATE_HZ = 16000
STEPS = ("--min-steps", "30", "--max-steps", "35")


def refusal(*arguments: str | Path) -> str:
    """The one line of a command's refusal; the command runs in this process, for speed."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert isinstance(result.exception, UnimoeError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published folder, with DAC where the published code keeps it and one voice."""
    folder = write_public_folder(tmp_path_factory.mktemp("published") / "model")
    (folder / "dac_model").mkdir()
    write_random_dac(folder / "dac_model" / "weights_16khz.pth")
    (folder / "voices").mkdir()
    write_recording(folder / "voices" / "ann.wav", 220)
    (folder / "voices" / "ann.txt").write_text("this is ann", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bundle(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundles") / "public"
    shown = output_of("export", published, target)
    assert "warning" not in shown
    return target


def write_clip(path: Path, frames_FHWC: np.ndarray) -> Path:
    return write_video(path, frames_FHWC, 10, codec="mpeg4")


@pytest.mark.slow
def test_export_and_verify(published: Path, bundle: Path) -> None:
    output_of("inspect", bundle, "--check")
    others: list[list[str | Path]] = [[], ["--against", published]]
    for other in others:
        report = json.loads(output_of("verify", bundle, *other, "--steps", "40", "--json"))
        assert report["passed"]
        assert report["agreement"]["first_difference"] is None
    compared = {graph["graph"] for graph in json.loads(output_of("verify", bundle, "--steps", "2", "--json"))["graphs"]}
    assert {"vision", "codec_decoder", "layers.2.expert.7", "head"} <= compared


@pytest.mark.parametrize("task", ["speech", "cloning", "text to music", "video to music"])
def test_each_task_gives_audio(bundle: Path, tmp_path: Path, task: str) -> None:
    arguments: dict[str, list[str | Path]] = {
        "speech": ["--task", "speech", "--voice", "ann"],
        "cloning": ["--task", "speech", "--voice", write_recording(tmp_path / "me.flac", 330), "--voice-text", "me"],
        "text to music": ["--task", "music"],
        "video to music": ["--task", "music", "--video", write_clip(tmp_path / "clip.mp4", numbered(30))],
    }
    out = tmp_path / "out.wav"
    shown = output_of("synth", bundle, *arguments[task], "--text", "The music is calm", *STEPS, "-o", out, "--json")
    pcm_L, rate_hz = soundfile.read(out)
    assert rate_hz == RATE_HZ
    assert len(pcm_L) % 320 == 0 and 26 * 320 <= len(pcm_L) <= 31 * 320
    assert np.abs(pcm_L).max() > 0
    assert json.loads(shown)["caption"] == "The music is calm"


def test_the_voice_is_heard(bundle: Path, tmp_path: Path) -> None:
    """Two recordings give two results; the codes are those of the recording's delayed rows in the prompt."""
    recordings = [write_recording(tmp_path / f"{hertz}.wav", hertz) for hertz in (200, 900)]
    limits = Limits(min_steps=20, max_steps=25)
    with Synthesizer.open(bundle) as synthesizer:
        spoken = [
            synthesizer.synthesize(
                SynthesisRequest(task="speech", text="hello", voice=str(path), voice_text="oh", seed=1, limits=limits)
            )
            for path in recordings
        ]
        again = synthesizer.synthesize(
            SynthesisRequest(
                task="speech", text="hello", voice=str(recordings[0]), voice_text="oh", seed=1, limits=limits
            )
        )
    assert (spoken[0].codes_TK != spoken[1].codes_TK).any()
    np.testing.assert_array_equal(spoken[0].pcm_L, again.pcm_L)


def test_a_voice_is_read_once(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second text in a voice skips the codec's encoder and the voice's prefill; its audio is equal to the bit."""
    recording = str(write_recording(tmp_path / "me.wav", 330))
    request: dict[str, Any] = {"task": "speech", "voice": recording, "voice_text": "oh", "seed": 1}
    limits = Limits(min_steps=20, max_steps=25)
    with Synthesizer.open(bundle) as synthesizer:
        alone = synthesizer.synthesize(SynthesisRequest(**request, text="world", limits=limits))
    with Synthesizer.open(bundle) as synthesizer:
        backend = synthesizer.backend
        rows: list[int] = []
        graphs: list[str] = []
        start, run_graph = backend.start, backend.run

        def counted_start(num_rows: int) -> Forward:
            rows.append(num_rows)
            return start(num_rows)

        def counted_run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
            graphs.append(graph)
            return run_graph(graph, inputs)

        monkeypatch.setattr(backend, "start", counted_start)
        monkeypatch.setattr(synthesizer.codec, "_run", counted_run)
        spoken = [
            synthesizer.synthesize(SynthesisRequest(**request, text=text, limits=limits)) for text in ("hello", "world")
        ]
    assert rows == [2, 1, 2] and graphs.count("codec_encoder") == 1
    np.testing.assert_array_equal(spoken[1].pcm_L, alone.pcm_L)


def test_the_video_is_seen(bundle: Path, tmp_path: Path) -> None:
    """The same text and seed: two videos and no video give three results."""
    rng = np.random.default_rng(0)
    clips = [None, numbered(30), rng.integers(256, size=(30, 56, 84, 3), dtype=np.uint8)]
    codes = []
    with Synthesizer.open(bundle) as synthesizer:
        for index, frames in enumerate(clips):
            path = None if frames is None else write_clip(tmp_path / f"{index}.mp4", frames)
            video = None if path is None else synthesizer.read_video(path)
            played = synthesizer.synthesize(
                SynthesisRequest(
                    task="music", text="calm", video=video, seed=1, limits=Limits(min_steps=20, max_steps=25)
                )
            )
            codes.append(played.codes_TK)
    assert all((first != second).any() for first, second in [(codes[0], codes[1]), (codes[1], codes[2])])


def test_torch_draws_the_same_codes(published: Path, bundle: Path, tmp_path: Path) -> None:
    """With the same voice, text and video prompts, the checkpoint in torch gives the bundle's codes."""
    model = TorchLanguageModel(load_model(published))
    sampling = SamplingConfig(guidance_scale=3.0, min_steps=20, max_steps=25)
    with Synthesizer.open(bundle) as synthesizer:
        video = synthesizer.read_video(write_clip(tmp_path / "clip.mp4", numbered(30)))
        requests: list[dict[str, Any]] = [
            {"task": "speech", "voice": "ann"},
            {"task": "music"},
            {"task": "music", "video": video},
        ]
        for request in requests:
            prompt = synthesizer.prepare(SynthesisRequest(text="hello", **request)).prompt
            played = synthesizer.synthesize(SynthesisRequest(text="hello", **request, seed=2, sampling=sampling))
            [codes_TK] = collect_frames(generate(model, prompt, synthesizer.bundle.model, sampling, seed=2))
            np.testing.assert_array_equal(played.codes_TK, codes_TK)


def test_defaults_are_the_published_ones(bundle: Path) -> None:
    sampling = open_bundle(bundle).sampling
    speech: dict[str, Any] = {"guidance_scale": 1.0, "eos_factor": 1.0}
    music: dict[str, Any] = {"guidance_scale": 10.0, "eos_factor": 0.6}
    common: dict[str, Any] = {"temperature": 1.0, "top_k": 45, "top_p": 1.0, "min_steps": 100, "max_steps": 1000}
    assert dict(sampling) == {"speech": SamplingConfig(**speech, **common), "music": SamplingConfig(**music, **common)}


def test_bad_requests_give_one_line(bundle: Path, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "me.wav", 330)
    long = write_recording(tmp_path / "long.wav", 330, seconds=31)
    sound = write_recording(tmp_path / "sound.wav", 330)
    (tmp_path / "text.mp4").write_text("no video")
    speak: list[str | Path] = ["--text", "hello", "--voice"]
    cases: list[tuple[list[str | Path], str]] = [
        ([*speak, recording], "needs the words of the recording"),
        ([*speak, long, "--voice-text", "hello"], "is 31.0 s long: cut it to at most 30 s"),
        ([*speak, "bob"], "there is no voice 'bob'"),
        ([*speak, tmp_path / "no.wav", "--voice-text", "x"], "is not a file"),
        ([*speak, recording, "--voice-text", "x", "--max-steps", "600"], "the model has 512"),
        (
            ["--text", "hello", "--timestamps", tmp_path / "a.srt"],
            "when it speaks a word: leave out --timestamps",
        ),
        (["--text", "<|im_end|>"], "which frames the model's prompts"),
        (["--task", "music", "--text", "x", "--voice", recording], "music takes no voice"),
        (["--task", "music", "--text", "x", "--video", sound], "has no video stream"),
        (["--task", "music", "--text", "x", "--video", tmp_path / "text.mp4"], "cannot be decoded as a video"),
        (["--task", "music", "--text", "x", "--max-steps", "0"], "max_steps is 0"),
    ]
    for arguments, message in cases:
        assert message in refusal("synth", bundle, *arguments, "-o", tmp_path / "out.wav")
    assert_one_line(run("synth", bundle, *cases[0][0], "-o", tmp_path / "out.wav"), cases[0][1])
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no shard", "model-00002-of-00002.safetensors"),
        ("half a shard", "model-00002-of-00002.safetensors"),
        ("other config", "another model"),
        ("no merges", "merges.txt: cannot be read"),
        ("other tokenizer", "is token 293, config.json says 294"),
    ],
)
def test_a_bad_folder_gives_one_line(published: Path, tmp_path: Path, fault: str, message: str) -> None:
    """The error is found before anything is built, and no file remains."""
    folder = shutil.copytree(published, tmp_path / "model")
    shard = folder / "model-00002-of-00002.safetensors"
    match fault:
        case "no shard":
            shard.unlink()
        case "half a shard":
            shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
        case "other config":
            config = json.loads((folder / "config.json").read_text())
            config["text_config"]["dynamic_intermediate_size"] = 100
            (folder / "config.json").write_text(json.dumps(config))
        case "no merges":
            (folder / "merges.txt").unlink()
        case "other tokenizer":
            (folder / "added_tokens.json").write_text('{"<|AUDIO_PLACEHOLDER|>": 293}')
    assert message in refusal("export", folder, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_folder_without_codec_and_tokenizer_warns(tmp_path: Path) -> None:
    folder = write_public_folder(tmp_path / "model")
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()
    done = run("export", folder, tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["unimoe", "unimoe"]
    assert "--codec" in done.stderr and "tokenizer" in done.stderr
