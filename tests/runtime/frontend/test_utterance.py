"""Items as phrases of words."""

from __future__ import annotations

from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Item, Pause, Unit
from unimoe_runtime.frontend.utterance import phrases_of


def test_pauses_and_inner_pauses_divide_phrases() -> None:
    items: list[Item] = [
        Unit(words=("a", INNER_PAUSE, "b"), written="a-b"),
        Pause(),
        Pause(),
        Unit(words=("c",), written="c"),
    ]
    assert phrases_of(items) == [["a"], ["b"], ["c"]]
