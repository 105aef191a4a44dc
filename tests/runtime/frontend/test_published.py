"""The published model's front end: the prompts of the published code, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.public_folder import VECTORS, write_frontend, write_tokenizer
from unimoe_runtime.audio.files import write_audio
from unimoe_runtime.checkpoint.published import vision_config
from unimoe_runtime.errors import BundleError, PromptError
from unimoe_runtime.frontend import VideoPrompt, VoicePrompt, open_frontend
from unimoe_runtime.frontend.published import PublishedFrontEnd
from unimoe_runtime.vision.tower import VideoFeatures

CONFIG = json.loads((VECTORS / "tiny_config.json").read_text())
TEMPLATES = json.loads((VECTORS / "templates.json").read_text())
VIDEO_ID, PAD_ID, PLACEHOLDER_ID = 293, 299, 294


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """frontend/ as the exporter writes it, with one voice."""
    published = tmp_path_factory.mktemp("published")
    (published / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(published)
    (published / "voices").mkdir()
    write_audio(published / "voices" / "ann.wav", np.zeros(1600, np.float32), 16000)
    (published / "voices" / "ann.txt").write_text("the ann\n")
    return write_frontend(published, tmp_path_factory.mktemp("frontend"))


@pytest.fixture(scope="module")
def frontend(folder: Path) -> PublishedFrontEnd:
    opened = open_frontend(folder)
    assert isinstance(opened, PublishedFrontEnd)
    return opened


def rows_of(frontend: PublishedFrontEnd, ids_BT: np.ndarray, mask_BT: np.ndarray) -> list[str]:
    return [
        frontend.tokenizer.decode(ids_T[mask_T].tolist(), skip_special_tokens=False)
        for ids_T, mask_T in zip(ids_BT, mask_BT, strict=True)
    ]


def voice_prompt(rows: int, text: str = "PROMPT TEXT") -> VoicePrompt:
    return VoicePrompt(codec_rows_RK=np.arange(rows * 4).reshape(rows, 4), text=text)


def video_prompt() -> VideoPrompt:
    """A clip of three grid steps of 2 × 4 patches: six embeddings."""
    embeddings_VC = np.arange(6 * 64, dtype=np.float32).reshape(6, 64)
    features = VideoFeatures(embeddings_VC=embeddings_VC, grid=(3, 2, 4), seconds_per_grid=2.0)
    config = vision_config(CONFIG)
    assert config is not None
    return VideoPrompt(features=features, config=config)


def test_music_is_the_published_prompt(frontend: PublishedFrontEnd) -> None:
    prompt = frontend.build_prompt("music", "CAPTION ONE").prompt
    assert rows_of(frontend, prompt.text_ids_BT, prompt.mask_BT) == TEMPLATES["text_to_music"]["text"][:2]
    assert prompt.paired
    padding_BT = ~prompt.mask_BT
    assert padding_BT.any() and (prompt.text_ids_BT[padding_BT] == PAD_ID).all()
    assert prompt.mask_BT[:, -1].all()  # padded on the left
    lengths = prompt.mask_BT.sum(axis=1)
    np.testing.assert_array_equal(prompt.first_position_B, lengths)
    np.testing.assert_array_equal(prompt.positions[prompt.mask_BT], np.concatenate([np.arange(n) for n in lengths]))


def test_speech_is_the_published_prompt(frontend: PublishedFrontEnd) -> None:
    """One placeholder for each delayed row. Both rows of the pair contain the voice; one of them has no text."""
    voice = voice_prompt(22)
    prompt = frontend.build_prompt("speech", "TARGET TEXT", voice_prompt=voice).prompt
    assert rows_of(frontend, prompt.text_ids_BT, prompt.mask_BT) == TEMPLATES["text_to_speech"]["text"]
    assert prompt.placeholder_id == PLACEHOLDER_ID
    assert (prompt.text_ids_BT == PLACEHOLDER_ID).sum(axis=1).tolist() == [22, 22]
    assert prompt.codec_ids_PK is not None
    np.testing.assert_array_equal(prompt.codec_ids_PK, np.concatenate([voice.codec_rows_RK] * 2))


def test_video_stands_before_the_text_in_both_rows(frontend: PublishedFrontEnd) -> None:
    video = video_prompt()
    prompt = frontend.build_prompt("music", "CAPTION", video=video).prompt
    clip = "<|vision_start|>" + 6 * "<|video_pad|>" + "<|vision_end|>"
    without_video = TEMPLATES["video_text_to_music"]["text"]
    expected = [text.replace("<|MUSIC_START|>", clip + "<|MUSIC_START|>") for text in without_video]
    assert rows_of(frontend, prompt.text_ids_BT, prompt.mask_BT) == expected
    assert prompt.video_embeddings_VC is not None
    np.testing.assert_array_equal(prompt.video_embeddings_VC, np.tile(video.features.embeddings_VC, (2, 1)))
    # Two seconds per grid step and two positions per second: time advances by four, row and column within the clip.
    [start, *_] = np.flatnonzero(prompt.text_ids_BT[0] == VIDEO_ID)
    clip_3T = prompt.positions[:, 0, start : start + 6] - prompt.positions[:, 0, start : start + 1]
    assert clip_3T.tolist() == [[0, 0, 4, 4, 8, 8], [0] * 6, [0, 1, 0, 1, 0, 1]]
    lengths = prompt.mask_BT.sum(axis=1)
    np.testing.assert_array_equal(prompt.first_position_B, lengths - 6 + 9)


@pytest.mark.parametrize(
    ("task", "given", "last"),
    [
        ("music", {}, "<|MUSIC_START|>"),
        ("music", {"video": video_prompt()}, "<|MUSIC_START|>"),
        ("speech", {"voice_prompt": voice_prompt(9)}, "<|SPEECH_START|>"),
    ],
)
def test_rows_share_what_comes_before_the_text(frontend: PublishedFrontEnd, task: str, given: dict, last: str) -> None:
    """The shared part does not depend on the text, so a voice, a clip or the template's words are read once."""
    prompts = [frontend.build_prompt(task, text, **given).prompt for text in ("one", "the music")]
    for prompt in prompts:
        assert prompt.num_shared == prompts[0].num_shared
        for ids_T, mask_T in zip(prompt.text_ids_BT, prompt.mask_BT, strict=True):
            assert ids_T[mask_T][prompt.num_shared - 1] == frontend.tokenizer.token_to_id(last)


def test_a_prompt_without_video_needs_no_tokens_of_it(frontend: PublishedFrontEnd) -> None:
    prompt = frontend.build_prompt("music", "music").prompt
    assert prompt.video_embeddings_VC is None and prompt.codec_ids_PK is None
    assert VIDEO_ID not in prompt.text_ids_BT


@given(text=st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and "<|" not in text))
def test_any_text_stays_within_its_frame(frontend: PublishedFrontEnd, text: str) -> None:
    """For any text, the tokens around it are the template's, and only those are special tokens."""
    prompt = frontend.build_prompt("music", text).prompt
    special = [index for index in prompt.text_ids_BT[1][prompt.mask_BT[1]].tolist() if index > 280]
    bare = [index for index in prompt.text_ids_BT[0][prompt.mask_BT[0]].tolist() if index > 280]
    assert special == bare


@pytest.mark.parametrize(
    ("task", "text", "given", "message"),
    [
        ("music", " ", {}, "the text is empty"),
        ("speech", "x", {}, "give a recording"),
        ("speech", "x", {"voice": "bob"}, "there is no voice 'bob'"),
        ("speech", "", {"voice_prompt": voice_prompt(3)}, "the text is empty"),
        ("speech", "x", {"voice_prompt": voice_prompt(3, " ")}, "voice's text is empty"),
        ("speech", "a<|im_end|>b", {"voice_prompt": voice_prompt(3)}, "holds <|im_end|>"),
        ("speech", "x", {"voice_prompt": voice_prompt(3, "<|AUDIO_PLACEHOLDER|>")}, "holds <|AUDIO_PLACEHOLDER|>"),
        ("speech", "x", {"voice_prompt": voice_prompt(5000)}, "the limit is 4096"),
        ("speech", "x", {"voice_prompt": voice_prompt(3), "video": video_prompt()}, "speech takes no video"),
        ("music", "x", {"voice": "ann"}, "music takes no voice"),
        ("music", "x" * 5000, {}, "the limit is 4096"),
        ("dance", "x", {}, "there is no task 'dance'"),
    ],
)
def test_what_it_refuses(frontend: PublishedFrontEnd, task: str, text: str, given: dict, message: str) -> None:
    with pytest.raises(PromptError, match=message.replace("|", r"\|")) as caught:
        frontend.build_prompt(task, text, **given)
    assert "\n" not in str(caught.value)


def test_its_own_voices_are_recordings(frontend: PublishedFrontEnd) -> None:
    assert frontend.voices == ("ann",)
    for name in ("ann", ""):
        recording = frontend.recording(name)
        assert recording is not None and recording.text == "the ann" and recording.path.is_file()
    assert frontend.recording("bob") is None


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 9},
        {"templates": {}},
        {"templates": {"speech": "{text}", "music": "{text}", "video_music": "{text}{video}"}},
        {"pad_id": "many"},
        {"voices": ["ann"]},
    ],
)
def test_damaged_settings_are_one_line(folder: Path, tmp_path: Path, change: dict) -> None:
    copy = shutil.copytree(folder, tmp_path / "frontend")
    settings = json.loads((copy / "frontend.json").read_text())
    (copy / "frontend.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(BundleError) as caught:
        open_frontend(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_a_damaged_tokenizer_is_one_line(folder: Path, tmp_path: Path, content: str | None) -> None:
    copy = shutil.copytree(folder, tmp_path / "frontend")
    (copy / "tokenizer.json").unlink()
    if content is not None:
        (copy / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError) as caught:
        open_frontend(copy)
    assert "\n" not in str(caught.value)


def test_a_voice_cannot_lead_out_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "frontend")
    settings = json.loads((copy / "frontend.json").read_text())
    settings["voices"]["ann"]["file"] = "../../secret.wav"
    (copy / "frontend.json").write_text(json.dumps(settings))
    recording = open_frontend(copy).recording("ann")
    assert recording is not None and recording.path == copy / "voices" / "secret.wav"


def test_the_tokenizer_is_whole_in_one_file(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "  The music is calm, 然后\n\n👍🏽 café"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
