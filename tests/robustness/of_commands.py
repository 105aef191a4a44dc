"""Values on the command line: non-finite numbers, sizes, texts, paths."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.robustness.bases import MUSIC, SPEECH, Bases
from tests.robustness.cases import Case, Mutator

LARGE = "5000"
NUMBERS = (
    "nan", "inf", "-inf", "-1", "0", "1e309", "1e-320", "99999999999999999999", LARGE, "1_0", "0x10", "", "x", "٣",
)  # fmt: skip
_OPTIONS = (
    "--seed", "--timeout", "--guidance", "--temperature", "--top-k", "--top-p", "--eos-factor", "--min-steps",
    "--max-steps", "--max-seconds", "--threads", "--chunk-frames", "--memory-budget", "--video-rate", "--video-frames",
)  # fmt: skip


def number(bases: Bases, folder: Path, rng: random.Random) -> Case:
    option, value = rng.choice(_OPTIONS), rng.choice(NUMBERS)
    out = folder / "out.wav"
    request = tuple(
        part for part in rng.choice((MUSIC, SPEECH)) if option != "--max-steps" or part not in ("--max-steps", "30")
    )
    argv = ("synth", str(bases.bundle), *request, "--seed", "3", "-o", str(out), f"{option}={value}")
    return Case(
        format="options", what=f"{option} {value}", argv=argv, audio=out, reference=request, free=True, folder=folder
    )


def other_command(bases: Bases, folder: Path, rng: random.Random) -> Case:
    value = rng.choice(NUMBERS)
    bundle, made = str(bases.bundle), str(folder / "made")
    argv = rng.choice(
        (
            ("verify", bundle, f"--tolerance={value}", "--steps=3"),
            ("verify", bundle, "--steps", value.replace(LARGE, "5")),
            ("calibrate", bundle, made, f"--floor={value}"), ("calibrate", bundle, made, f"--max-loss={value}"),
            ("calibrate", bundle, made, f"--max-bytes={value}"), ("calibrate", bundle, made, f"--seed={value}"),
            ("plan", bundle, "--target", value), ("build", bundle, "--target", value),
            ("plan", bundle, "--target", "rtx-4060", f"--memory={value}"), ("inspect", made + "\udcff"),
            ("export", str(bases.checkpoint), made, "--codec", value or "."), ("export", bundle, made),
            ("profile", bundle, "--task=music", "--steps=2", f"--warmup={value.replace(LARGE, '2')}"),
            ("build", bundle, "--target=sm86", f"--cache-capacity={rng.choice(('nan', '-1', '0', 'x', ''))}"),
        )
    )  # fmt: skip
    return Case(format="options", what=" ".join(argv[2:])[-60:], argv=argv, free=True, folder=folder)


def text(bases: Bases, folder: Path, rng: random.Random) -> Case:
    size = rng.choice((0, 1, 60, 2_000, 20_000, 120_000))
    alphabet = rng.choice(
        ("a", "a ", "A", "1", ".", "é", "\u2028", "😀", "a-", "'", "a, ", "C4 ", "\udcff", "漢", "\t\r\n", "\x1b[")
    )
    words = (alphabet * size)[:size]
    if rng.random() < 0.5:
        words = "".join(rng.choice("aeiou bcd.,;:'-$%&/()=?0123456789éß漢\u2028\u202e\x07") for _ in range(size))
    out = folder / "out.wav"
    task = rng.choice(("speech", "music"))
    argv = ("synth", str(bases.bundle), "--task", task, f"--text={words}", "--max-steps", "30", "-o", str(out))
    return Case(
        format="texts",
        what=f"{task}: {size} characters of {words[:4]!r}",
        argv=argv,
        audio=out,
        free=True,
        folder=folder,
    )


def output(bases: Bases, folder: Path, rng: random.Random) -> Case:
    """The destination of the audio."""
    names = ("o" * 251 + ".wav", "o" * 300 + ".wav", "a[b]*.wav", "é\u2028.wav", "no/such/folder.wav", "out.txt", "out",
             " .wav", "-x.wav", "fifo.wav", "folder.wav", "locked/out.wav", "out.WAV", "link.wav", ".wav",
             "nul\udcff.wav")  # fmt: skip
    name = rng.choice(names)
    if name == "fifo.wav":
        os.mkfifo(folder / name)
    elif name == "folder.wav":
        (folder / name).mkdir()
    elif name == "link.wav":
        (folder / name).symlink_to(folder / "target.wav")
    out = folder / name
    stream = rng.choice(((), ("--stream",)))
    argv = ("synth", str(bases.bundle), *MUSIC, "--seed", "3", *stream, "-o", str(out))
    return Case(format="outputs", what=name[:30], argv=argv, audio=out, reference=MUSIC, folder=folder)


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "options": (number, 10), "other options": (other_command, 6), "texts": (text, 8), "outputs": (output, 5),
}  # fmt: skip
