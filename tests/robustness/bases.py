"""Valid inputs from which cases are made: bundles that speak, checkpoints, recordings, lists, recipes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from unimoe_runtime.files.hashes import sha256_of

MANIFEST = "manifest.json"
MUSIC = ("--task", "music", "--text", "flute, 120 bpm: C4 E4", "--max-steps", "30")
SPEECH = ("--text", "Hello the cat.", "--max-steps", "30")
CLONED = ("--text", "music in the", "--voice-text", "this is ann", "--min-steps", "4", "--max-steps", "12")


@dataclass(frozen=True, kw_only=True)
class Bases:
    """Folders and files under `folder`; `write` makes them."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """A tiny model with the demo's front end and our codec."""
        return self.folder / "speaking" / "bundle"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "speaking" / "checkpoint"

    @property
    def published(self) -> Path:
        """A tiny model of the published form: a tokenizer, cloned voices, DAC."""
        return self.folder / "published" / "bundle"

    @property
    def recording(self) -> Path:
        return self.folder / "voice.wav"

    @property
    def recipes(self) -> list[Path]:
        """The repository's recipes."""
        return sorted((self.folder / "recipes").glob("*.toml"))

    @property
    def corpus(self) -> Path:
        """A corpus of two clips of speech and one of music."""
        return self.folder / "corpus"

    @property
    def spoken(self) -> Path:
        """Two clips as `unimoe data speak` and `hear` leave them."""
        return self.folder / "spoken"

    @property
    def melodies(self) -> Path:
        """A corpus of melodies that `unimoe eval` can judge."""
        return self.folder / "melodies"

    @property
    def recordings(self) -> Path:
        """Two recordings with their texts."""
        return self.folder / "recordings"

    @property
    def cache(self) -> Path:
        """A user's cache with a pronouncing dictionary of a few words."""
        return self.folder / "cache"

    @property
    def pack(self) -> Path:
        return self.folder / "bundle.pack"

    @property
    def profile(self) -> Path:
        """A report of `unimoe profile`."""
        return self.folder / "profile.json"

    @property
    def videos(self) -> list[Path]:
        return sorted((self.folder / "videos").iterdir())


def write_bases(folder: Path) -> Bases:
    """Write all inputs; existing ones stay."""
    from tests.public_folder import write_public_folder
    from tests.random_dac import write_random_dac
    from tests.robustness.corpora import write_corpora
    from tests.speaking_bundle import write_speaking_bundle
    from tests.unimoe.evaluation.corpora import write_corpus
    from tests.videos import numbered, write_video
    from unimoe.cli.group import cli
    from unimoe.data.npm import PRONUNCIATIONS

    bases = Bases(folder=folder)
    if (folder / "complete").is_file():
        return bases
    shutil.rmtree(folder, ignore_errors=True)
    write_speaking_bundle(folder / "speaking")
    time_L = np.arange(9_000) / 22_050
    soundfile.write(bases.recording, 0.3 * np.sin(2 * np.pi * 220 * time_L), 22_050)
    source = write_public_folder(folder / "published" / "model")
    (source / "dac_model").mkdir()
    write_random_dac(source / "dac_model" / "weights_16khz.pth")
    (source / "voices").mkdir()
    shutil.copy(bases.recording, source / "voices" / "ann.wav")
    (source / "voices" / "ann.txt").write_text("this is ann", encoding="utf-8")
    cli.main(["export", str(source), str(bases.published)], standalone_mode=False)
    (folder / "recipes").mkdir()
    for recipe in (Path(__file__).parents[2] / "recipes").glob("*.toml"):
        shutil.copy(recipe, folder / "recipes")
    write_corpora(bases.corpus, bases.spoken)
    write_corpus(bases.melodies, speech=False)
    bases.recordings.mkdir()
    for audio in (bases.spoken / "audio").iterdir():
        shutil.copy(audio, bases.recordings)
        (bases.recordings / f"{audio.stem}.txt").write_text("hello", encoding="utf-8")
    dictionary = bases.cache / "unimoe" / PRONUNCIATIONS.folder_name
    dictionary.mkdir(parents=True)
    words = itertools.product("bdfklmnprst", "aeiou", "bdfgklmnprst")
    sounds = {"a": "AE1", "e": "EH1", "i": "IH1", "o": "AA1", "u": "AH1"}
    entries = [f'"{a}{b}{c}": "{a.upper()} {sounds[b]} {c.upper()}",' for a, b, c in words]
    (dictionary / "index.js").write_text("\n".join(entries), encoding="utf-8")
    (folder / "durations.toml").write_text("[durations]\nepochs = 1\n", encoding="utf-8")
    small = "[letter_to_sound]\nepochs = 2\nchannels = 8\nblocks = 1\n"
    (folder / "letter_to_sound.toml").write_text(small, encoding="utf-8")
    (folder / "videos").mkdir()
    for name, codec in (("clip.mp4", "mpeg4"), ("clip.mkv", "mpeg4"), ("clip.avi", "png")):
        write_video(folder / "videos" / name, numbered(6), 2, codec=codec)
    for argv in (
        ["pack", str(bases.bundle), "-o", str(bases.pack)],
        ["profile", str(bases.bundle), "--repetitions", "1", f"--json={bases.profile}"],
    ):
        cli.main(argv, standalone_mode=False)
    (folder / "complete").touch()
    return bases


def copy_tree(source: Path, target: Path) -> Path:
    """A copy whose files are links; `put` replaces the link of a changed file."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def put(path: Path, content: bytes) -> None:
    """Replace a link by a file."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def rehash(bundle: Path, *files: str) -> None:
    """Update sizes and hashes of changed files in the manifest, as the bundle's author would."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    for file in files:
        path = bundle / file
        manifest["files"][file] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    put(bundle / MANIFEST, json.dumps(manifest).encode())
