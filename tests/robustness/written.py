"""Checks of what writing commands left in a folder: absent, or complete. Each raises where something is half there."""

from __future__ import annotations

import shutil
from pathlib import Path


def opens(folder: Path, name: str = "made") -> None:
    from unimoe_runtime.bundle.reader import open_bundle

    if (folder / name).exists():
        list(open_bundle(folder / name).check_all())


def plays(folder: Path) -> None:
    import soundfile

    if (folder / "out.wav").exists():
        assert soundfile.info(folder / "out.wav").frames > 0


def is_corpus(folder: Path) -> None:
    from unimoe.data.corpus import Corpus, hash_clip

    if (folder / "made" / "index.jsonl").exists():
        for item in Corpus.open(folder / "made"):
            assert item.clip == hash_clip(item.samples()), f"{item.source} is not that of the index"


def is_encoded(folder: Path) -> None:
    from unimoe.data.codes import read_cache

    for codec in (folder / "made").iterdir() if (folder / "made").exists() else ():
        read_cache(codec)


def is_json(folder: Path) -> None:
    import json

    for path in folder.glob("made.*"):
        text = path.read_text(encoding="utf-8")
        assert json.loads(text) if path.suffix == ".json" else text.rstrip().endswith("</html>")


def is_trained(folder: Path) -> None:
    from unimoe.checkpoint import load_model

    checkpoint = folder / "work" / "checkpoint"
    if checkpoint.exists():
        load_model(checkpoint)


def is_part(folder: Path) -> None:
    from unimoe.training.frontend_parts import read_section

    if (folder / "made" / "durations.json").exists():
        read_section(folder / "made" / "durations.json")


def is_lexicon(folder: Path) -> None:
    from unimoe.training.frontend_parts import read_section
    from unimoe_runtime.frontend.packed_lexicon import FILE, PackedLexicon

    if (folder / "made" / "letter_to_sound.json").exists():
        read_section(folder / "made" / "letter_to_sound.json")
        PackedLexicon.read(folder / "made" / FILE)


def is_spoken(folder: Path) -> None:
    import soundfile

    from unimoe.data.speaking import read_clips, read_heard

    spoken = folder / "spoken"
    keys = [clip["key"] for clip in read_clips(spoken)]
    assert len(set(keys)) == len(keys), "a clip is listed twice"
    for clip in read_clips(spoken):
        assert "error" not in clip and soundfile.info(spoken / clip["audio"]).frames > 0
    heard = [line["key"] for line in read_heard(spoken)]
    assert len(set(heard)) == len(heard) and set(heard) <= set(keys)


def unpacks(folder: Path) -> None:
    from unimoe_tools.bundles.packing import unpack

    if (folder / "made.pack").exists():
        shutil.rmtree(folder.parent / "unpacked", ignore_errors=True)
        unpack(folder / "made.pack", folder.parent / "unpacked")
