"""Tags across blocks: an open tag stays open."""

from __future__ import annotations

from unimoe_runtime.frontend.markup import MarkupReader, Run
from unimoe_runtime.frontend.normalisation import Pause


def test_a_tag_may_close_in_a_later_block() -> None:
    told: list[str] = []
    reader = MarkupReader(warn=told.append)
    first = list(reader.read('one <prosody rate="slow">two'))
    second = list(reader.read("three</prosody> four <odd/> <odd/>"))
    runs = [(run.text.strip(), run.rate) for run in [*first, *second] if isinstance(run, Run) and run.text.strip()]
    assert runs == [("one", 1.0), ("two", 0.75), ("three", 0.75), ("four", 1.0)]
    assert told == ["<odd> is an unknown tag and is skipped"]


def test_a_closing_tag_that_is_cut_off_is_silent() -> None:
    reader = MarkupReader(warn=lambda line: None)
    assert [run.text for run in reader.read("<speak>hello</speak") if isinstance(run, Run)] == ["hello"]


def test_breaks_and_paths() -> None:
    reader = MarkupReader(warn=lambda line: None)
    assert next(iter(reader.read("[[pause 1s]]"))) == Pause(seconds=1.0)
    assert [run.text for run in reader.read("[docs](/a/b/)") if isinstance(run, Run)] == ["[docs](/a/b/)"]
