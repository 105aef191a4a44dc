"""Joins several corpora into one. Audio is linked, not copied, where the file system allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unimoe.data.corpus import INDEX, Corpus, CorpusError, write_index
from unimoe.data.filtering import link_audio
from unimoe_runtime.errors import OutputError


def join_corpora(folders: Sequence[Path], out: Path) -> Corpus:
    """Write the corpus of all clips of `folders`. Each clip keeps its split. A repeated source name gets a number.

    Raises CorpusError where sample rates differ, OutputError where `out` is one of the folders.
    """
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise OutputError(f"{out} is one of the corpora: give another folder for all of them")
    corpora = [Corpus.open(folder) for folder in folders]
    rates = sorted({corpus.sample_rate_hz for corpus in corpora})
    if len(rates) > 1:
        raise CorpusError(f"the corpora have sample rates of {rates[0]} and {rates[-1]} Hz: make them at one rate")
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)
    lines: list[dict[str, Any]] = []
    licences: dict[str, str] = {}
    details: dict[str, Any] = {}
    for folder, corpus in zip(folders, corpora, strict=True):
        names: dict[str, str] = {}
        for source, licence in corpus.licences.items():
            name, number = source, 2
            while name in licences:
                name, number = f"{source}-{number}", number + 1
            names[source], licences[name] = name, licence
            if source in corpus.details:
                details[name] = corpus.details[source]
            link_audio(folder / f"{source}.npy", out / f"{name}.npy")
        lines += [{**item.to_dict(), "source": names[item.source]} for item in corpus]
    write_index(out, lines, sample_rate_hz=rates[0], licences=licences, seed=0, details=details)
    return Corpus.open(out)
