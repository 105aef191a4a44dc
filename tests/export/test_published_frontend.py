"""Reading a published folder's tokenizer: the published ids, and one line for any missing or foreign part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.public_folder import VECTORS, write_tokenizer
from unimoe_export.published_frontend import published_frontend, read_tokenizer
from unimoe_runtime.audio.files import write_audio
from unimoe_runtime.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_bytes((VECTORS / "tiny_config.json").read_bytes())
    write_tokenizer(tmp_path)
    return tmp_path


def test_ids_are_those_of_the_published_vocabulary(tmp_path: Path) -> None:
    """English, Chinese, emoji, code and more give the ids of tiktoken with the whole vocabulary.

    The repository has the part of the vocabulary that these texts need. vectors/make_qwen_tokenizer.py makes it, and
    compares 20,000 more texts."""
    record = json.loads((VECTORS / "qwen_tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(record["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(record["merges"]), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps(record["added"]))
    tokenizer, pad = read_tokenizer(tmp_path)
    assert pad == "<|endoftext|>"
    assert tokenizer.token_to_id("<|AUDIO_PLACEHOLDER|>") == 151665
    for text, ids in zip(record["texts"], record["ids"], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


@pytest.mark.parametrize("file", ["added_tokens.json", "tokenizer_config.json"])
def test_either_file_of_added_tokens_will_do(folder: Path, file: str) -> None:
    whole, _ = read_tokenizer(folder)
    (folder / file).unlink()
    part, pad = read_tokenizer(folder)
    assert part.to_str() == whole.to_str() and pad == "<|endoftext|>"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", None, "vocab.json: cannot be read"),
        ("vocab.json", "[]", "vocab.json: must hold a JSON object"),
        ("vocab.json", '{"a": 1}', "do not belong together"),
        ("merges.txt", None, "merges.txt: cannot be read"),
        ("merges.txt", "#version: 0.2\n", "merges.txt: must hold two tokens a line"),
        ("merges.txt", "a b c\n", "merges.txt: must hold two tokens a line"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": {}}}', "the added tokens cannot be read"),
        ("added_tokens.json", '{"<|im_start|>": "many"}', "the added tokens cannot be read"),
        ("added_tokens.json", '{"<|AUDIO_PLACEHOLDER|>": 293}', "is token 293, config.json says 294"),
        ("added_tokens.json", '{"<|wide|>": 300}', "ids up to 300, the model 300"),
    ],
)
def test_a_missing_or_foreign_file_is_one_line(folder: Path, file: str, content: str | None, message: str) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        published_frontend(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_the_added_tokens_names_them(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "added_tokens.json").write_text('{"<|endoftext|>": 299}')
    with pytest.raises(CheckpointError, match=r"lacks <\|AUDIO_PLACEHOLDER\|>, <\|AUDIO_START\|>, "):
        published_frontend(folder)


def test_a_voice_needs_its_words(folder: Path) -> None:
    (folder / "voices").mkdir()
    write_audio(folder / "voices" / "ann.wav", np.zeros(100, np.float32), 16000)
    with pytest.raises(CheckpointError, match=r"ann.txt: is missing; write into it, in UTF-8, what ann.wav says"):
        published_frontend(folder)
    (folder / "voices" / "ann.txt").write_text("hello")
    assert sorted(published_frontend(folder)) == ["frontend.json", "tokenizer.json", "voices/ann.wav"]


def test_a_folder_without_a_tokenizer_has_no_front_end(tmp_path: Path) -> None:
    assert published_frontend(tmp_path) == {}
