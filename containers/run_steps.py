"""The steps of a Containerfile as a script: `python containers/run_steps.py CONTAINERFILE CONTEXT FOLDER`.

For machines without a container engine. FOLDER stands for the image's WORKDIR: COPY copies there from CONTEXT, RUN runs
there. What comes with the base image, the system's Python, is this machine's. CMD is printed and not run.
"""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def read_steps(file: Path) -> Iterator[tuple[str, str]]:
    """Instructions and what follows them, lines that go on joined. Raises ValueError for one that is no instruction."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            if word not in ("FROM", "WORKDIR", "COPY", "RUN", "EXPOSE", "CMD"):
                raise ValueError(f"{file}: {word} is no instruction that this script knows")
            yield word, rest.strip()


def run_steps(file: Path, context: Path, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run the steps and return the command of CMD. Raises CalledProcessError where one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ""
    for word, rest in read_steps(file):
        if word == "COPY":
            *sources, place = shlex.split(rest)
            for pattern in sources:
                found = glob.glob(str(context / pattern))
                if not found:
                    raise FileNotFoundError(f"{context}: holds no {pattern}")
                for path in found:
                    shutil.copy(path, folder / place)
        elif word == "RUN":
            print(f"RUN {rest}", flush=True)
            subprocess.run(["sh", "-ec", rest], cwd=folder, check=True, env={**os.environ, **(environment or {})})
        elif word == "CMD":
            command = rest
    return command


if __name__ == "__main__":
    file, context, folder = map(Path, sys.argv[1:4])
    print("CMD", run_steps(file, context, folder))
