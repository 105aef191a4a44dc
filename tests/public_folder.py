"""A miniature of the published checkpoint folder, file by file as published, from the reference vectors' model.

The model's text has 300 ids: 256 bytes, 25 merges, and the added tokens at the ids of its config.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import load_file, save_file

from unimoe_export.published_frontend import published_frontend

VECTORS = Path(__file__).parent / "vectors"
MERGES = (
    "Ġ t, h e, i n, r e, o n, e r, Ġ a, a t, Ġ s, e n, s t, Ġ p, i s, o r, Ġ c, a n, in g, Ġt he, Ġ m, u s, i c, "
    "us ic, Ġm usic, l y, l l"
).split(", ")
ADDED = (
    "<|AUDIO_END|> <|SPEECH_START|> <|SPEECH_END|> <|VOICE_PROMPT_START|> <|VOICE_PROMPT_END|> "
    "<|SPEECH_PROMPT_START|> <|SPEECH_PROMPT_END|> <|MUSIC_START|> <|MUSIC_END|> <|vision_start|> <|vision_end|> "
    "<|image_pad|> <|video_pad|> <|AUDIO_PLACEHOLDER|> <|AUDIO_START|> <|im_start|> <|im_end|> <|vision_pad|> "
    "<|endoftext|>"
).split()


def write_public_folder(folder: Path) -> Path:
    """config.json, two shards with their index, and the tokenizer; no codec."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes((VECTORS / "tiny_config.json").read_bytes())
    write_shards(folder)
    write_tokenizer(folder)
    return folder


def write_shards(folder: Path, count: int = 2) -> None:
    tensors = load_file(VECTORS / "tiny_model_state.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for shard in range(count):
        file = f"model-{shard + 1:05d}-of-{count:05d}.safetensors"
        part = names[shard * len(names) // count : (shard + 1) * len(names) // count]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def write_tokenizer(folder: Path) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    letters = [*map(chr, printable), *(chr(256 + index) for index in range(len(others)))]
    tokens = [*letters, *(merge.replace(" ", "") for merge in MERGES)]
    added = {token: len(tokens) + index for index, token in enumerate(ADDED)}
    decoder = {
        str(index): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": True,
        }
        for token, index in added.items()
    }  # fmt: skip
    settings = {
        "add_prefix_space": False, "added_tokens_decoder": decoder, "bos_token": None, "eos_token": "<|im_end|>",
        "errors": "replace", "model_max_length": 512, "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer",
    }  # fmt: skip
    vocabulary = {token: index for index, token in enumerate(tokens)}
    for name, content in {
        "vocab.json": vocabulary,
        "added_tokens.json": added,
        "tokenizer_config.json": settings,
        "special_tokens_map.json": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    }.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{merge}\n" for merge in MERGES), encoding="utf-8")


def write_frontend(published: Path, target: Path) -> Path:
    """Write frontend/ of a published folder, as the exporter writes it into a bundle."""
    for name, content in published_frontend(published).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return target
