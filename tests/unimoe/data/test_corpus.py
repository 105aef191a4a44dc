"""A corpus on disk: what an index may say, and one line for what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.corpora import write_corpora
from unimoe.data.corpus import INDEX, Corpus, CorpusError
from unimoe.data.gathering import gather_clips
from unimoe.evaluation.hearing import hear_corpus
from unimoe_runtime.errors import OutputError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A corpus and a folder of spoken clips."""
    write_corpora(tmp_path / "corpus", tmp_path / "spoken")
    return tmp_path / "corpus", tmp_path / "spoken"


def changed(folder: Path, line: int, change: dict[str, Any]) -> None:
    path = folder / INDEX
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **change})
    path.write_text("\n".join(lines), encoding="utf-8")


def test_an_index_with_a_byte_order_mark_and_odd_line_ends_is_read(folders: tuple[Path, Path]) -> None:
    corpus, _ = folders
    before = Corpus.open(corpus)
    changed(corpus, 1, {"text": "hel\u2028lo"})
    (corpus / INDEX).write_bytes(b"\xef\xbb\xbf" + (corpus / INDEX).read_bytes().replace(b"\n", b"\r\n"))
    found = Corpus.open(corpus)
    assert len(found) == len(before) and found[0].text == "hel\u2028lo"


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (0, {"sources": {"../ann": "ours"}}), (0, {"sources": []}), (0, {"sample_rate_hz": -1}), (0, {"details": 3}),
        (0, {"sample_rate_hz": float("nan")}), (1, {"offset": -1}), (1, {"length": "7"}), (1, {"split": "all"}),
        (1, {"source": "radio"}), (1, {"phonemes": [["hh"]]}), (1, {"phonemes": [["hh", -1.0]]}), (1, {"more": 1}),
        (1, {"word_numbers": [0]}), (2, {"notes": [{"pitch": "x"}]}), (1, {"length": 1 << 40}),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(folders: tuple[Path, Path], line: int, change: dict[str, Any]) -> None:
    corpus, _ = folders
    changed(corpus, line, change)
    with pytest.raises(CorpusError) as caught:
        Corpus.open(corpus)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': (,      \n", b"x" * 500]
)
def test_damaged_audio_is_one_line(folders: tuple[Path, Path], content: bytes) -> None:
    corpus, _ = folders
    (corpus / "ann.npy").write_bytes(content)
    with pytest.raises(CorpusError, match=r"ann\.npy"):
        Corpus.open(corpus)


@pytest.mark.parametrize(
    "change", [{"audio": "../corpus/ann.npy"}, {"audio": "/etc/passwd"}, {"phonemes": 3}, {"key": []}, {"kind": "x"}]
)
def test_a_damaged_clip_is_one_line(folders: tuple[Path, Path], tmp_path: Path, change: dict[str, Any]) -> None:
    _, spoken = folders
    clip = {**json.loads((spoken / "clips.jsonl").read_text().splitlines()[0]), **change}
    (spoken / "clips.jsonl").write_text(json.dumps(clip) + "\n")
    with pytest.raises(OutputError, match=r"clips\.jsonl") as caught:
        gather_clips(spoken, tmp_path / "made", sample_rate_hz=16_000)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_verdicts_of_another_judge_are_not_mixed(folders: tuple[Path, Path]) -> None:
    _, spoken = folders
    with pytest.raises(OutputError, match=r"by the judge tiny\.en"):
        next(hear_corpus(spoken, size="base"))
    assert list(hear_corpus(spoken, size="tiny.en")) == [], "everything is heard already"
