"""A second language is a folder of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.normalisation import Normaliser, Unit, open_language, read_language
from unimoe_runtime.frontend.normalisation.language import LANGUAGES

GERMAN = """[terms]
point\tkomma
minus\tminus
decimal_sign\t,

[cardinals]
0\tnull
1\teins
2\tzwei
3\tdrei
4\tvier
5\tfuenf
6\tsechs
7\tsieben
8\tacht
9\tneun
10\tzehn
11\telf
12\tzwoelf
13\t>>zehn
20\t[>>und]zwanzig
30\t[>>und]dreissig
100\t<<hundert[>>]
1000\t<<tausend[>>]
=1\teins
=21\teinundzwanzig
=31\teinunddreissig
=100\teinhundert
=1000\teintausend

[ordinals]
drei\tdritter
acht\tachter
*g\t*gster
*\t*ter

[units exact]
km\tkilometer|kilometer
kg\tkilogramm|kilogramm

[folded exact]
ü\tue
ö\toe
ß\tss

[abbreviations]
z.B.\tzum beispiel

[patterns]
num\t\\d{1,3}(?:\\.\\d{3})+(?:,\\d+)?|\\d+(?:,\\d+)?

[rules]
abbreviation\tabbreviations\t«a:abbreviations»\t{a:abbreviations}
time\t0\t(?P<h>\\d{1,2})[:.](?P<m>\\d{2})\\s?Uhr\t{h:hour} uhr[ {m:minutes}]
measure\t0\t«n:num»\\s?«u:units»(?!\\w)\t{n:number} {u:units}
ordinal\t0\t(?P<n>\\d+)\\.(?=\\s+[A-Z])\t{n:ordinal}
plain\t0\t«n:num»\t{n:number}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "de"
    made.mkdir()
    (made / "tables.tsv").write_text(GERMAN.replace("minutes", "cardinal"), encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3,5 km", "drei komma fuenf kilometer"),
        ("2.234 kg", "zweitausendzweihundertvierunddreissig kilogramm"),
        ("um 15:30 Uhr", "um fuenfzehn uhr dreissig"),
        ("21 Äpfel", "einundzwanzig apfel"),
        ("z.B. heute", "zum beispiel heute"),
        ("8. Mai", "achter mai"),
        ("-", ""),
    ],
)
def test_a_language_is_its_tables(folder: Path, text: str, said: str) -> None:
    items = Normaliser(language=read_language(folder)).read(text)
    words = [word for item in items if isinstance(item, Unit) for word in item.words]
    assert " ".join(words) == said


def test_what_has_no_meaning_is_named_with_its_line(folder: Path) -> None:
    path = folder / "tables.tsv"
    for row, message in (
        ("broken\t0\t(\t{n}", "the pattern cannot be used"),
        ("broken\t0\t«nothing»\tx", "the pattern cannot be used"),
        ("broken\t0\t(?P<n>x)\t{n:nobody}", "there is no reader or group 'nobody'"),
        ("broken\t0", "has 2 columns"),
    ):
        path.write_text(f"{GERMAN}{row}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=f"tables.tsv:.*{message}"):
            read_language(folder, check=True)


def test_english_is_well_formed() -> None:
    assert read_language(LANGUAGES / "en", check=True).name == "en"


def test_languages_that_come_with_the_runtime() -> None:
    assert open_language("en").name == "en"
    for name in ("xx", "../en", ""):
        with pytest.raises(ConfigError, match="it can be en"):
            open_language(name)


def test_compile_leaves_no_pattern_for_the_first_text(folder: Path) -> None:
    language = read_language(folder)
    rules = [rule for rules in language.triggered.values() for rule in rules]
    assert not any("pattern" in vars(rule) for rule in rules)
    language.compile()
    assert all("pattern" in vars(rule) for rule in rules)
