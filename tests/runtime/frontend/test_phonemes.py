"""Phonemes in their usual notations, and lexicon files."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.phonemes import parse_phonemes, read_lexicon

PLAIN = frozenset("pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow p r s t th uw v w".split())
STRESSED = frozenset("ae0 ae1 ae2 ah0 ah1 k t n er0 er1 iy0 iy1 p l".split())


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("K AE1 T", "k ae t"),
        ("k ae t", "k ae t"),
        ("kæt", "k ae t"),
        ("ˈkæt", "k ae t"),
        ("/kəˈkɑː/", "k ax k aa"),
        ("ˈtʃaɪ", "ch ay"),
        ("B AH0 N AE1 N AH0", "b ax n ae n ax"),
        ("ˈbɝd", "b er d"),
        ("dʒoʊ", "jh ow"),
        ("ɹɪˈpiːt", "r ih p iy t"),
    ],
)
def test_arpabet_and_ipa_become_the_voices_phonemes(written: str, plain: str) -> None:
    assert parse_phonemes(written, PLAIN) == tuple(plain.split())


def test_stress_is_kept_where_the_voice_has_it() -> None:
    assert parse_phonemes("K AE2 T AH0 N", STRESSED) == ("k", "ae2", "t", "ah0", "n")
    assert parse_phonemes("K AE T", STRESSED) == ("k", "ae1", "t")
    assert parse_phonemes("ˈkæpˌtæn", STRESSED) == ("k", "ae1", "p", "t", "ae2", "n")


@pytest.mark.parametrize(
    ("written", "alphabet", "message"),
    [
        ("K QQ T", "", "'QQ' is not a phoneme of this voice in ARPAbet; it has aa"),
        ("kæ7t", "", "'7' is not a phoneme of this voice in IPA"),
        ("K AE T", "klingon", "alphabet is 'klingon'; it can be ipa or arpabet"),
        (" ", "", "there are no phonemes"),
        ("kæt", "arpabet", "'kæt' is not a phoneme"),
    ],
)
def test_a_wrong_symbol_is_one_line(written: str, alphabet: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as refusal:
        parse_phonemes(written, PLAIN, alphabet)
    assert "\n" not in str(refusal.value)


def test_lexicon_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("# names\nKraków\tK R AA1 K UH2 F\nNguyen  W IH1 N\nsiobhan ʃɪˈvɔːn\n\nXi = SH IY1 # a name\n")
    assert read_lexicon(path) == {
        "Kraków": "K R AA1 K UH2 F", "Nguyen": "W IH1 N", "siobhan": "ʃɪˈvɔːn", "Xi": "SH IY1",
    }  # fmt: skip
    path.write_text("Kraków\n")
    with pytest.raises(PromptError, match=r"names\.txt:1: 'Kraków' is not a word with its phonemes"):
        read_lexicon(path)
    with pytest.raises(PromptError, match="cannot be read"):
        read_lexicon(tmp_path / "missing.txt")
