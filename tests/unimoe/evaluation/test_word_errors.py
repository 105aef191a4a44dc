"""Word errors by kind, their totals, and the baseline of other clips' texts."""

from __future__ import annotations

import pytest

from unimoe.evaluation.word_errors import WordErrors, compare_tokens, count_errors, rotated_errors, total_errors


@pytest.mark.parametrize(
    ("said", "heard", "substitutions", "deletions", "insertions", "gap"),
    [
        ("a b c d", "a b c d", 0, 0, 0, 0),
        ("a b c d", "a x c d", 1, 0, 0, 0),
        ("a b c d", "a", 0, 3, 0, 3),
        ("a b", "a y z b c", 0, 0, 3, 2),
        ("", "a", 0, 0, 1, 1),
    ],
)
def test_errors_by_kind(said: str, heard: str, substitutions: int, deletions: int, insertions: int, gap: int) -> None:
    found = compare_tokens(said.split(), heard.split())
    assert (found.substitutions, found.deletions, found.insertions) == (substitutions, deletions, insertions)
    assert found.longest_gap == gap and found.words == len(said.split())


def test_totals_and_the_rotated_baseline() -> None:
    texts = ["turn on the light", "call forty two"]
    assert total_errors(texts, ["turn on the light", "call 42"]) == WordErrors(words=7)
    assert rotated_errors(texts, texts).rate > 0.9
    assert count_errors("one two", "one").to_dict() == {
        "wer": 0.5, "substitutions": 0, "deletions": 1, "insertions": 0, "words": 2, "longest_gap": 1,
    }  # fmt: skip
