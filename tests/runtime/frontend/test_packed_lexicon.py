"""The packed lexicon: what is written is read, and damage is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe_runtime.errors import BundleError
from unimoe_runtime.frontend.packed_lexicon import PackedLexicon, write_lexicon

LETTERS = st.text("abcz'", min_size=1, max_size=12)
SOUNDS = st.lists(st.sampled_from(["ae1", "k", "t", "ah0", "zh"]), min_size=1, max_size=6).map(tuple)


@settings(max_examples=30, deadline=None)
@given(words=st.dictionaries(LETTERS, SOUNDS, min_size=1, max_size=60))
def test_what_is_written_is_read(words: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.bin"
    write_lexicon(path, words)
    read = PackedLexicon.read(path)
    assert dict(read) == words and len(read) == len(words)


def many_words() -> dict[str, tuple[str, ...]]:
    letters = "abcdefghij"
    return {a + b + c + d: ("ae1", "k") for a in letters for b in letters for c in letters for d in letters}


def test_many_words_lie_in_blocks_that_are_unpacked_when_needed(tmp_path: Path) -> None:
    write_lexicon(tmp_path / "lexicon.bin", many_words())
    lexicon = PackedLexicon.read(tmp_path / "lexicon.bin")
    assert len(lexicon.blocks) > 5
    assert lexicon["ehgb"] == ("ae1", "k")
    assert "aaaaa" not in lexicon and "" not in lexicon and "zzz" not in lexicon
    assert (tmp_path / "lexicon.bin").stat().st_size < 12 * len(lexicon)


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.bin"
    write_lexicon(path, many_words())
    content = path.read_bytes()
    lexicon = PackedLexicon.read(path)
    start = len(content) - len(lexicon.packed)
    for damaged in (b"", content[: len(content) // 2], b"other" + content, content[:30]):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=r"lexicon\.bin: .*export again") as caught:
            PackedLexicon.read(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content[:start] + bytes(len(lexicon.packed)))
    with pytest.raises(BundleError, match="block 0 is damaged"):
        PackedLexicon.read(path)["aaaa"]
    with pytest.raises(BundleError, match="cannot be read"):
        PackedLexicon.read(tmp_path / "none.bin")
