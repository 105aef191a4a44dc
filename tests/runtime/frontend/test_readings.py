"""Readings of texts: a table by class, and values that are written, read and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

FOLDER = Path(__file__).parent
DEMO = FOLDER.parents[2] / "checkpoints" / "demo" / "frontend"


def rows(name: str) -> list[tuple[str, ...]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if not line.startswith("# ")]


READINGS = rows("readings.tsv")
CLASSES = list(dict.fromkeys(row[0] for row in READINGS))


@pytest.fixture(scope="module")
def demo() -> TimelineFrontEnd:
    frontend = open_frontend(DEMO)
    assert isinstance(frontend, TimelineFrontEnd)
    return frontend


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_texts_is_read_as_it_is_meant(demo: TimelineFrontEnd, name: str) -> None:
    wrong = [
        f"{text!r}: {said!r}, not {speech!r}"
        for kind, text, speech in READINGS
        if kind == name and (said := demo.speech.whole(text, "rms").caption) != speech
    ]
    assert not wrong


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(READINGS) >= 600
    assert len(CLASSES) >= 25


def test_phonemes_are_those_of_the_words_that_are_meant(demo: TimelineFrontEnd) -> None:
    if "phoneme:ax" not in demo.tokens:
        pytest.skip("the table is in phonemes without stress; the demo's have it")
    wrong = []
    for text, phonemes in rows("phonemes.tsv"):
        words = demo.speech.whole(text, "rms").words
        said = " ".join(phoneme for word in words for phoneme in word.phonemes)
        if said != f"pau {phonemes} pau":
            wrong.append(f"{text!r}: {said!r}")
    assert not wrong
