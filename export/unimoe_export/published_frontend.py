"""The front end of a published checkpoint folder: its tokenizer's files and prompt templates, as a bundle's frontend/.

The folder holds vocab.json and merges.txt (Qwen2's byte-level BPE) and the added tokens in added_tokens.json or
tokenizer_config.json. They become one tokenizer.json, which the runtime reads. Recordings in the folder's voices/
(NAME.wav and NAME.txt, what it says) become voices that can be asked for by name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from unimoe_runtime.audio.files import READABLE
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.text import read_lines, read_text
from unimoe_runtime.frontend.published import FORMAT_VERSION, KIND, TOKENIZER

_VOCABULARY, _MERGES = "vocab.json", "merges.txt"
# Qwen2's pattern for cutting a text into pieces; merges of bytes stay within a piece.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEFAULT_PAD = "<|endoftext|>"
_PLACEHOLDER, _VIDEO = "<|AUDIO_PLACEHOLDER|>", "<|video_pad|>"
_FRAME = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n<|AUDIO_START|>"
)
_MUSIC = "<|MUSIC_START|>{text}<|MUSIC_END|>"
# The published code's template, character for character, except for the video: its generation never shows the model
# the clip. Here the clip comes before the text, as in the authors' training code for pictures and in Qwen2.5-VL.
TEMPLATES = {
    "speech": _FRAME
    % (
        "<|SPEECH_PROMPT_START|>{voice_text}<|SPEECH_PROMPT_END|><|VOICE_PROMPT_START|>{voice}<|VOICE_PROMPT_END|>"
        "<|SPEECH_START|>{text}<|SPEECH_END|>"
    ),
    "music": _FRAME % _MUSIC,
    "video_music": _FRAME % ("<|vision_start|>{video}<|vision_end|>" + _MUSIC),
}
UNCONDITIONAL = {"speech": "", "music": "Low quality.", "video_music": "Low quality."}
_TOKENS = frozenset(re.findall(r"<\|\w+\|>", "".join(TEMPLATES.values()))) | {_PLACEHOLDER, _VIDEO}
# Our own limit, since the published code has none: a longer recording costs memory and is no better sample of a voice.
_MAX_VOICE_S = 30.0
_MAX_PROMPT_TOKENS = 4096


def published_frontend(folder: Path) -> dict[str, bytes | Path]:
    """The files of frontend/ for a published folder: their content, or the file to copy.

    Empty where the folder has no tokenizer. Raises CheckpointError, one line, where a file is missing or damaged, or
    the tokenizer belongs to another model.
    """
    if not any((folder / file).exists() for file in (_VOCABULARY, _MERGES)):
        return {}
    config = read_json(folder / "config.json", CheckpointError)
    tokenizer, pad = read_tokenizer(folder)
    for token, field in ((_PLACEHOLDER, "codec_placeholder_value"), (_VIDEO, "video_token_id")):
        if tokenizer.token_to_id(token) != config.get(field):
            raise CheckpointError(
                f"{folder}: {token} is token {tokenizer.token_to_id(token)}, config.json says {config.get(field)}; "
                "the tokenizer's files are another model's"
            )
    largest, rows = max(tokenizer.get_vocab().values()), config["text_config"]["vocab_size"]
    if largest >= rows:
        raise CheckpointError(
            f"{folder}: the tokenizer has ids up to {largest}, the model {rows} of them; "
            "the tokenizer's files are another model's"
        )
    recordings = _recordings(folder / "voices")
    settings = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "templates": TEMPLATES,
        "unconditional": UNCONDITIONAL,
        "placeholder": _PLACEHOLDER,
        "video_token": _VIDEO,
        "pad_id": tokenizer.token_to_id(pad),
        "max_prompt_tokens": _MAX_PROMPT_TOKENS,
        "max_voice_s": _MAX_VOICE_S,
        "voices": {path.stem: {"file": path.name, "text": text} for path, text in recordings.items()},
    }
    return {
        "frontend.json": (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode(),
        TOKENIZER: tokenizer.to_str().encode(),
        **{f"voices/{path.name}": path for path in recordings},
    }


def read_tokenizer(folder: Path) -> tuple[Tokenizer, str]:
    """The tokenizer of a published folder, and its padding token.

    Raises CheckpointError where a file is missing or damaged, or a token of the prompt templates is missing.
    """
    vocabulary = read_json(folder / _VOCABULARY, CheckpointError)
    merges = _read_merges(folder / _MERGES)
    added, pad = _added_tokens(folder)
    # A token's id comes from the model's vocabulary, so that ids with gaps between them stay unchanged. No merge leads
    # to an added token.
    try:
        tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, **added}, merges=merges))
    except Exception as error:  # the package raises Exception itself
        raise CheckpointError(f"{folder}: {_VOCABULARY} and {_MERGES} do not belong together ({error})") from None
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    by_id = sorted(added, key=lambda token: added[token])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in by_id])
    missing = sorted(token for token in (*_TOKENS, pad) if token not in added)
    if missing:
        raise CheckpointError(
            f"{folder}: the tokenizer lacks {', '.join(missing)}; added_tokens.json is missing or another model's"
        )
    return tokenizer, pad


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = read_lines(path, CheckpointError)
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise CheckpointError(f"{path}: must hold two tokens a line; the file is damaged")
    return [(left, right) for left, right in merges]


def _added_tokens(folder: Path) -> tuple[dict[str, int], str]:
    """Ids of the added tokens and the padding token, from tokenizer_config.json and added_tokens.json."""
    added: dict[str, int] = {}
    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").exists():
        settings = read_json(folder / "tokenizer_config.json", CheckpointError)
    pad = settings.get("pad_token") or _DEFAULT_PAD
    try:
        for index, token in settings.get("added_tokens_decoder", {}).items():
            added[token["content"]] = index
        if (folder / "added_tokens.json").exists():
            added.update(read_json(folder / "added_tokens.json", CheckpointError))
        added = {str(token): int(index) for token, index in added.items()}
        return added, str(pad["content"] if isinstance(pad, dict) else pad)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: the added tokens cannot be read ({error})") from None


def _recordings(folder: Path) -> dict[Path, str]:
    """The audio files of a folder, with the words of each."""
    recordings = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in READABLE:
            continue
        words = path.with_suffix(".txt")
        if not words.exists():
            raise CheckpointError(f"{words}: is missing; write into it, in UTF-8, what {path.name} says")
        recordings[path] = read_text(words, CheckpointError).strip()
    return recordings
