"""The commands that write, each with a small job, a check of what it left, and the names of its results."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.bases import MUSIC, Bases, copy_tree

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
    says where its result is there already. `keeps`: names of hidden files with which the next run goes on.
    """

    name: str
    words: Callable[[Bases, Path], tuple[str | Path, ...]]
    check: Callable[[Path], None]
    leaves: frozenset[str]
    given: frozenset[str] = frozenset()
    refuses: str = ""
    keeps: frozenset[str] = frozenset()
    prepare: Callable[[Bases, Path], object] = _nothing

    def argv(self, bases: Bases, folder: Path) -> list[str]:
        return [str(word) for word in self.words(bases, folder)]


def _opens(folder: Path, name: str = "made") -> None:
    from unimoe_runtime.bundle.reader import open_bundle

    if (folder / name).exists():
        list(open_bundle(folder / name).check_all())


def _plays(folder: Path) -> None:
    import soundfile

    if (folder / "out.wav").exists():
        assert soundfile.info(folder / "out.wav").frames > 0


def _is_corpus(folder: Path) -> None:
    from unimoe.data.corpus import Corpus, hash_clip

    if (folder / "made" / "index.jsonl").exists():
        for item in Corpus.open(folder / "made"):
            assert item.clip == hash_clip(item.samples()), f"{item.source} is not that of the index"


def _is_encoded(folder: Path) -> None:
    from unimoe.data.codes import read_cache

    for codec in (folder / "made").iterdir() if (folder / "made").exists() else ():
        read_cache(codec)


def _is_json(folder: Path) -> None:
    import json

    for path in folder.glob("made.*"):
        text = path.read_text(encoding="utf-8")
        assert json.loads(text) if path.suffix == ".json" else text.rstrip().endswith("</html>")


def _is_trained(folder: Path) -> None:
    from unimoe.checkpoint import load_model

    checkpoint = folder / "work" / "checkpoint"
    if checkpoint.exists():
        load_model(checkpoint)


def _is_part(folder: Path) -> None:
    from unimoe.training.frontend_parts import read_section

    if (folder / "made" / "durations.json").exists():
        read_section(folder / "made" / "durations.json")


def _unpacks(folder: Path) -> None:
    from unimoe_tools.bundles.packing import unpack

    if (folder / "made.pack").exists():
        shutil.rmtree(folder.parent / "unpacked", ignore_errors=True)
        unpack(folder / "made.pack", folder.parent / "unpacked")


def _recipe(text: str) -> Callable[[Bases, Path], object]:
    return lambda bases, folder: (folder / "recipe.toml").write_text(text, encoding="utf-8")


def _copy_bundle(bases: Bases, folder: Path) -> None:
    copy_tree(bases.bundle, folder / "made")


def _copy_speech(bases: Bases, folder: Path) -> None:
    shutil.copytree(bases.spoken, folder / "spoken")


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
        name="export", check=_opens, leaves=_MADE,
        words=lambda bases, folder: ("export", bases.checkpoint, folder / "made", "--force"),
    ),
    Writer(
        name="calibrate", check=_opens, leaves=_MADE, given=frozenset({"list.jsonl"}),
        prepare=lambda bases, folder: (folder / "list.jsonl").write_text(_LIST, encoding="utf-8"),
        words=lambda bases, folder: (
            "calibrate", bases.bundle, folder / "made", "--force", "--floor", "1", "--data", folder / "list.jsonl",
            "--cache", folder.parent / "cache",
        ),
    ),
    Writer(
        name="synth", check=_plays, leaves=frozenset({"out.wav"}),
        words=lambda bases, folder: ("synth", bases.bundle, *MUSIC, "-o", folder / "out.wav"),
    ),
    Writer(
        name="synth --stream", check=_plays, leaves=frozenset({"out.wav"}),
        words=lambda bases, folder: ("synth", bases.bundle, *MUSIC, "--stream", "-o", folder / "out.wav"),
    ),
    Writer(
        name="build", check=_opens, leaves=_MADE, prepare=_copy_bundle, keeps=frozenset({".journal"}),
        words=lambda bases, folder: ("build", folder / "made", "--target", "rtx-4090", "--jobs", "1"),
    ),
    Writer(
        name="pack", check=_unpacks, leaves=frozenset({"made.pack"}),
        words=lambda bases, folder: ("pack", bases.bundle, "-o", folder / "made.pack"),
    ),
    Writer(
        name="unpack", check=_opens, leaves=_MADE, words=lambda bases, folder: ("unpack", bases.pack, folder / "made"),
        refuses="exists already",
    ),
    Writer(
        name="data render", check=_is_corpus, leaves=_MADE, given=frozenset({"recipe.toml"}),
        prepare=_recipe(_RENDERED),
        words=lambda bases, folder: ("data", "render", folder / "recipe.toml", folder / "made", "--workers", "1"),
    ),
    Writer(
        name="data filter", check=_is_corpus, leaves=_MADE, prepare=_copy_corpus, given=frozenset({"corpus"}),
        words=lambda bases, folder: ("data", "filter", folder / "corpus", folder / "made", "--workers", "1"),
    ),
    Writer(
        name="data join", check=_is_corpus, leaves=_MADE, prepare=_copy_corpus, given=frozenset({"corpus"}),
        words=lambda bases, folder: ("data", "join", folder / "made", folder / "corpus", bases.corpus),
    ),
    Writer(
        name="data gather", check=_is_corpus, leaves=_MADE, prepare=_copy_speech, given=frozenset({"spoken"}),
        words=lambda bases, folder: ("data", "gather", folder / "spoken", folder / "made", "--rate", "16000"),
    ),
    Writer(
        name="data encode", check=_is_encoded, leaves=_MADE,
        words=lambda bases, folder: (
            "data", "encode", bases.corpus, bases.checkpoint / "codec", "--cache", folder / "made", "--threads", "1",
        ),
    ),
    Writer(
        name="data durations", check=_is_part, leaves=_MADE,
        words=lambda bases, folder: (
            "data", "durations", bases.corpus, folder / "made", "--recipe", bases.folder / "durations.toml",
            "--threads", "1",
        ),
    ),
    Writer(
        name="data report", check=_is_json, leaves=frozenset({"made.html", "made.json"}),
        words=lambda bases, folder: ("data", "report", bases.corpus, "--html", folder / "made.html"),
    ),
    Writer(
        name="train", check=_is_trained, leaves=frozenset({"work"}), given=frozenset({"recipe.toml"}),
        prepare=_recipe(TINY_RECIPE),
        words=lambda bases, folder: ("train", folder / "recipe.toml", "--work", folder / "work"),
    ),
    Writer(
        name="train, the model", check=_is_trained, leaves=frozenset({"work"}), given=frozenset({"recipe.toml"}),
        prepare=_copy_work,
        words=lambda bases, folder: ("train", folder / "recipe.toml", "--work", folder / "work"),
    ),
)  # fmt: skip
