"""Corpora, folders of spoken clips, packs, and text files of commands other than `synth`."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from tests.robustness.bases import Bases, copy_tree, put
from tests.robustness.cases import Case, Mutator
from tests.robustness.values import damage_document, damage_text


def _damaged_line(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """JSON lines with one line damaged, or the file as a whole."""
    if rng.random() < 0.35:
        return damage_text(content, rng)
    lines = content.decode().splitlines()
    at = rng.choice((0, rng.randrange(len(lines))))
    what, lines[at] = _damaged_json(lines[at], rng)
    return f"line {at}: {what}", "\n".join(lines).encode()


def _damaged_json(text: str, rng: random.Random) -> tuple[str, str]:
    what, document = damage_document(json.loads(text), rng)
    return what, json.dumps(document)


def _damaged_bytes(content: bytes, rng: random.Random, head: int = 200) -> tuple[str, bytes]:
    raw = bytearray(content)
    if rng.random() < 0.3:
        return "cut off", content[: rng.randrange(len(content))]
    for _ in range(rng.choice((1, 4, 32))):
        raw[rng.randrange(min(head, len(raw)))] = rng.randrange(256)
    return "other bytes", bytes(raw)


def corpus(bases: Bases, folder: Path, rng: random.Random) -> Case:
    corpus = copy_tree(bases.corpus, folder / "corpus")
    path = rng.choice([corpus / "index.jsonl"] * 3 + sorted(corpus.glob("*.npy")))
    what, content = (_damaged_line if path.suffix == ".jsonl" else _damaged_bytes)(path.read_bytes(), rng)
    put(path, content)
    made = str(folder / "made")
    argv = rng.choice(
        (
            ("data", "report", str(corpus)), ("data", "join", made, str(corpus), str(bases.corpus)),
            ("data", "filter", str(corpus), made, "--workers", "1"),
            ("data", "encode", str(corpus), str(bases.checkpoint / "codec"), "--cache", made, "--threads", "1"),
            ("data", "durations", str(corpus), made, "--recipe", str(bases.folder / "durations.toml")),
        )
    )  # fmt: skip
    return Case(format="corpora", what=f"{path.name}: {what}, {argv[1]}", argv=argv, free=True, folder=folder)


def spoken(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A folder of `unimoe data speak` and `hear`."""
    clips = copy_tree(bases.spoken, folder / "spoken")
    path = rng.choice((clips / "clips.jsonl", clips / "clips.jsonl", clips / "heard.jsonl", clips / "audio" / "0.flac"))
    what, content = (_damaged_line if path.suffix == ".jsonl" else _damaged_bytes)(path.read_bytes(), rng)
    put(path, content)
    unheard = rng.choice(((), ("--unheard",)))
    argv = ("data", "gather", str(clips), str(folder / "made"), "--rate", "16000", *unheard)
    return Case(format="corpora", what=f"{path.name}: {what}", argv=argv, free=True, folder=folder)


def own(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A user's own recordings with their lists."""
    source = folder / "own"
    source.mkdir()
    (source / "one.wav").write_bytes(bases.recording.read_bytes())
    kind = rng.choice(("metadata.csv", "metadata.jsonl", "one.txt"))
    text = {"metadata.csv": "one|hello the cat", "metadata.jsonl": '{"file": "one", "text": "hello"}'}.get(
        kind, "hello"
    )
    what, content = damage_text(text.encode() + b"\n", rng)
    if kind == "metadata.jsonl" and rng.random() < 0.5:
        what, line = _damaged_json(text, rng)
        content = line.encode()
    (source / kind).write_bytes(content)
    argv = ("data", "import", str(source), str(folder / "made"), "--no-align", "--workers", "1")
    return Case(format="corpora", what=f"{kind}: {what}", argv=argv, free=True, folder=folder)


def pack(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A pack with another index, other members, or other bytes."""
    content, path = bases.pack.read_bytes(), folder / "made.pack"
    match rng.randrange(4):
        case 0:
            what, content = _damaged_bytes(content, rng, head=rng.choice((600, len(content))))
        case 1:
            what, content = _with_index(content, rng)
        case 2:
            what, content = _with_member(content, rng)
        case _:
            what, content = damage_text(content[:2000], rng)
    path.write_bytes(content)
    argv = ("unpack", str(path), str(folder / "made"))
    return Case(format="packs", what=what, argv=argv, free=True, folder=folder)


def _members(content: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            if member.isfile():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _with_index(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    members = _members(content)
    if rng.random() < 0.3:
        what, text = damage_text(members[0][1], rng)
    else:
        what, document = damage_document(json.loads(members[0][1]), rng)
        text = json.dumps(document).encode()
    members[0] = members[0][0], text
    return f"index: {what}", _tar(members)


def _with_member(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    members = _members(content)
    at = rng.randrange(1, len(members))
    member, data = members[at]
    what = rng.choice(("link", "hard link", "device", "pipe", "folder", "outside", "absolute", "twice", "gone", "more"))
    match what:
        case "link" | "hard link":
            member.type = tarfile.SYMTYPE if what == "link" else tarfile.LNKTYPE
            member.linkname = rng.choice(("/etc/passwd", "../../elsewhere", "manifest.json"))
        case "device" | "pipe" | "folder":
            member.type = {"device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE}[what]
        case "outside":
            member.name = "../" + member.name
        case "absolute":
            member.name = "/tmp/" + member.name
        case "twice":
            members.append((member, data))
        case "gone":
            members.pop(at)
        case "more":
            members.append((tarfile.TarInfo("more"), b"x"))
    return f"a member: {what}", _tar(members)


def text_file(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """A user's lexicon, text, recipe of calibration, profile or routing statistics."""
    path = folder / "given"
    bundle, made = str(bases.bundle), str(folder / "made")
    kind = rng.choice(("lexicon", "text", "calibration", "profile", "routing", "config", "targets"))
    sound: dict[str, bytes] = {
        "lexicon": "Kraków  hh ax l ow\ncat\tk ae t\n".encode(), "text": b"Hello the cat.\n" * 3,
        "calibration": b'[calibrate]\ntarget = "cpu"\nfloor = 1\nprecision = "int8"\nmax_bytes = 100000000\nseed = 3\n',
        "profile": bases.profile.read_bytes(), "routing": bases.profile.read_bytes(),
        "config": (bases.checkpoint / "config.json").read_bytes(), "targets": b"",
    }  # fmt: skip
    what, content = _damaged_text_or_document(sound[kind], kind, rng)
    path.write_bytes(content)
    argv: dict[str, tuple[str, ...]] = {
        "lexicon": ("say-as", bundle, "Kraków cat hello", "--lexicon", str(path)),
        "text": rng.choice((
            ("say-as", bundle, "--text-file", str(path)),
            ("synth", bundle, "--text-file", str(path), "--max-steps", "30", "-o", str(folder / "out.wav")),
        )),
        "calibration": ("calibrate", bundle, made, "--recipe", str(path), "--cache", str(folder / "cache")),
        "profile": ("profile", "--compare", str(bases.profile), str(path)),
        "routing": ("plan", bundle, "--target", "orin-nx-16gb", "--routing", str(path)),
        "config": ("plan", str(path), "--target", "orin-nx-16gb"),
        "targets": ("inputs", bundle, "--graph", rng.choice(("head", "", "x" * 300, "layers.9.trunk", "../head")),
                    "-o", str(folder / rng.choice(("made", "no/made", ".")))),
    }  # fmt: skip
    return Case(format="text files", what=f"{kind}: {what}", argv=argv[kind], free=True, folder=folder)


def _damaged_text_or_document(content: bytes, kind: str, rng: random.Random) -> tuple[str, bytes]:
    if not content or rng.random() < 0.4:
        return damage_text(content or b"{}", rng)
    if kind in ("profile", "routing", "config"):
        what, text = _damaged_json(content.decode(), rng)
        return what, text.encode()
    lines: list[Any] = content.decode().splitlines()
    at = rng.randrange(len(lines))
    wrong = ("x", "= 1", "a b c d", "\u2028", "\t", "é" * 300, "cat  qq", "target = 3", "floor = -1", "max_bytes = nan",
             "precision = 'x'", "seed = 99999999999999999999", "data = 3", "data = ['x']", "target = [[]]")  # fmt: skip
    lines[at] = rng.choice(wrong)
    return f"line {at}: {lines[at][:20]!r}", "\n".join(lines).encode()


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "corpus": (corpus, 6), "spoken": (spoken, 4), "own": (own, 3), "pack": (pack, 6), "text file": (text_file, 8),
}  # fmt: skip
