"""Makes qwen_tokenizer.json: texts, their ids in the published Qwen vocabulary, and the part of it they need.

    pip install --no-deps dashscope && pip install tiktoken
    python tests/vectors/make_qwen_tokenizer.py [TEXT FILES …]

The vocabulary is the one that dashscope ships as qwen.tiktoken (Apache-2.0). The ids come from tiktoken, an independent
implementation. First the script writes the whole vocabulary to a folder in the published format, reads it with our
exporter, and compares ids of the corpus, of random Unicode, and of the given files.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
import unicodedata
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from unimoe_export.published_frontend import read_tokenizer

HERE = Path(__file__).parent
ADDED = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<|AUDIO_PLACEHOLDER|> <|AUDIO_START|> <|AUDIO_END|> <|SPEECH_START|> <|SPEECH_END|> <|VOICE_PROMPT_START|> "
    "<|VOICE_PROMPT_END|> <|SPEECH_PROMPT_START|> <|SPEECH_PROMPT_END|> <|MUSIC_START|> <|MUSIC_END|>"
).split()
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "Using script blockers is generally a good idea, but it requires the user to learn a bit.",
    "They're calling to us not to give up -- and we'LL keep on fighting! I'd say: 3,141.59 %",
    "然而阿卡显然已经拿定主意，要援救黑老鼠。小偷却一点也不气馁，继续在抽屉里翻找。",
    "UniMoE-Audio 同时生成语音和音乐，采样率 16kHz，共 12 个码本。",
    "This song contains a digital drum playing a simple pattern with a kick and a snare sound, at 120 bpm in F♯ minor.",
    "👍🏽 nice! 👨‍👩‍👧‍👦 🎵🎶 → ∞ ≈ ½ ™ 🇨🇭",
    "def step(h, cache, *, top_p: float = 0.7) -> list[int]:\n    # 选择\n\treturn [e for e in range(8) if w[e]]\n\n",
    "Cafe\u0301 nai\u0308ve Zu\u0308rich, ﬁne, Ångström, Ω vs \u2126",
    "日本語の文章と한국어 문장, русский текст, ελληνικά, עברית, العربية, हिन्दी, ไทย",
    "  leading and trailing  \r\n\r\n   tabs\t\t\u3000wide space\u00a0no-break   ",
    "<|im_start|>user\n<|MUSIC_START|>A peaceful piano melody<|MUSIC_END|><|im_end|>\n<|AUDIO_START|>",
    "https://example.org/?q=a%20b&x=[1,2]#top  C++17 `std::vector<int>` 0x7f 1e-6 <html>&amp;</html>",
    "\u0000\u0001\ufeff\U0001f9ff\U000e0041 \u0301\u0338",
]


def main(files: list[str]) -> None:
    package = find_spec("dashscope")
    assert package is not None and package.submodule_search_locations
    vocabulary = Path(package.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
    rows = (line.split() for line in vocabulary.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    added = {token: len(ranks) + index for index, token in enumerate(ADDED)}
    reference = import_module("tiktoken").Encoding("qwen", pat_str=PIECES, mergeable_ranks=ranks, special_tokens=added)
    merges = {token: split(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1}
    whole = [*TEXTS, *random_texts(20_000), *(part for file in files for part in Path(file).read_text().split("\n\n"))]
    differing = compare(whole, reference, folder_files(ranks, merges, added))
    print(f"{len(whole)} texts, {differing} differ")
    if differing:
        sys.exit(1)
    # A merge can apply only if its bytes are in the text.
    corpus = "\x00".join(unicodedata.normalize("NFC", text) for text in TEXTS).encode()
    needed = {token for token in merges if token in corpus and token.strip(b"\x00")}
    small = {token: rank for token, rank in ranks.items() if len(token) == 1 or token in needed}
    files_of_it = folder_files(small, {token: merges[token] for token in merges if token in needed}, added)
    assert not compare(TEXTS, reference, files_of_it)
    record = {"texts": TEXTS, "ids": [encode(reference, text) for text in TEXTS], **files_of_it}
    (HERE / "qwen_tokenizer.json").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


def split(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that merge into a token: the result of merging its bytes with lower ranks only."""
    parts = [bytes([value]) for value in token]
    while len(parts) > 2:
        _, at = min((ranks.get(left + right, len(ranks)), at) for at, (left, right) in enumerate(pairwise(parts)))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def folder_files(ranks: dict, merges: dict, added: dict[str, int]) -> dict[str, object]:
    """vocab.json, merges.txt and added_tokens.json, with bytes as printable characters as in GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    letters = {value: chr(value) for value in printable} | {value: chr(256 + at) for at, value in enumerate(others)}

    def written(token: bytes) -> str:
        return "".join(letters[value] for value in token)

    lines = [f"{written(left)} {written(right)}" for left, right in merges.values()]
    return {"vocab": {written(token): rank for token, rank in ranks.items()}, "merges": lines, "added": added}


def encode(reference: Any, text: str) -> list[int]:
    return reference.encode(unicodedata.normalize("NFC", text), allowed_special="all")


def compare(texts: list[str], reference: Any, files: dict) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.json").write_text(json.dumps(files["vocab"]), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(files["merges"]) + "\n", encoding="utf-8")
        (folder / "added_tokens.json").write_text(json.dumps(files["added"]), encoding="utf-8")
        tokenizer, _ = read_tokenizer(folder)
    return sum(tokenizer.encode(text, add_special_tokens=False).ids != encode(reference, text) for text in texts)


def random_texts(count: int) -> list[str]:
    """Strings that mix scripts, combining marks, emoji, white space and contractions."""
    rng = random.Random(0)
    scripts = [
        (32, 127), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x500), (0x5D0, 0x5EB), (0x600, 0x700), (0x900, 0x980),
        (0xE00, 0xE5C), (0x2000, 0x2070), (0x3040, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x1F300, 0x1FB00),
        (0xE000, 0x110000),
    ]  # fmt: skip
    others = [" ", "  ", "\n", "\t", "\r\n", "\u3000", "'s", "'LL", "123", "。", "👍🏽", "👨‍👩‍👧"]
    texts = []
    for _ in range(count):
        chosen = rng.choices(scripts, k=3)
        letters = (chr(rng.randrange(*rng.choice(chosen))) for _ in range(rng.randint(1, 40)))
        texts.append("".join(letter if rng.random() > 0.15 else rng.choice(others) for letter in letters))
    return texts


if __name__ == "__main__":
    main(sys.argv[1:])
