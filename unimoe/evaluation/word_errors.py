"""Word errors by kind: substitutions, deletions and insertions.

Both texts are converted to one spelling first (`spoken_form`). The rate is the errors divided by the reference's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from unimoe.evaluation.spoken_form import spelled_like, spoken_tokens


@dataclass(frozen=True, kw_only=True)
class WordErrors:
    """Counts over some texts. `longest_gap`: the longest run of deleted, or of inserted, words in one text."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0
    longest_gap: int = 0

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
            words=self.words + other.words,
            longest_gap=max(self.longest_gap, other.longest_gap),
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        return self.errors / max(1, self.words)

    def to_dict(self) -> dict[str, float]:
        return {"wer": round(self.rate, 4), **asdict(self)}


def count_errors(reference: str, heard: str) -> WordErrors:
    """Errors of one text."""
    said = spoken_tokens(reference)
    return compare_tokens(said, spelled_like(spoken_tokens(heard), said))


def total_errors(references: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """Errors of several texts."""
    return sum((count_errors(a, b) for a, b in zip(references, heard, strict=True)), WordErrors())


def rotated_errors(references: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """The rotated baseline: errors against the next text's words."""
    return total_errors([*references[1:], *references[:1]], heard)


def compare_tokens(reference: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """Errors of the alignment that has the fewest (Levenshtein)."""
    steps = _align(reference, heard)
    gap = longest = 0
    previous = "="
    for step in steps:
        gap = gap + 1 if step in "DI" and step == previous else int(step in "DI")
        longest, previous = max(longest, gap), step
    return WordErrors(
        substitutions=steps.count("S"),
        deletions=steps.count("D"),
        insertions=steps.count("I"),
        words=len(reference),
        longest_gap=longest,
    )


def _align(reference: Sequence[str], heard: Sequence[str]) -> str:
    """Steps in order: = equal, S substituted, D deleted, I inserted."""
    costs = [list(range(len(heard) + 1))]
    for i, word in enumerate(reference, start=1):
        row = [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(costs[i - 1][j - 1] + (word != other), costs[i - 1][j] + 1, row[j - 1] + 1))
        costs.append(row)
    i, j = len(reference), len(heard)
    steps: list[str] = []
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (reference[i - 1] != heard[j - 1]):
            steps.append("=" if reference[i - 1] == heard[j - 1] else "S")
            i, j = i - 1, j - 1
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            steps.append("D")
            i -= 1
        else:
            steps.append("I")
            j -= 1
    return "".join(reversed(steps))
