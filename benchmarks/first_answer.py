"""From an empty environment to the first answer of the server: installation, start, first request.

    python -m benchmarks.first_answer BUNDLE [--extras cpu,serve] [--markdown FILE]

Installs this checkout with pip into a new virtual environment of a temporary folder, starts `unimoe serve BUNDLE`
there, and asks for one sentence. pip may read its cache and the network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.child import ROOT
from benchmarks.served import served
from unimoe_tools.profiling.machine import describe_machine


def measure(bundle: Path, extras: str, folder: Path) -> dict[str, float]:
    """Seconds of each part, in order."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def passed(part: str) -> None:
        seconds[part] = time.perf_counter() - began - sum(seconds.values())

    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, env=environment)
    passed("new environment")
    programs = folder / "venv" / "bin"
    subprocess.run(
        [str(programs / "pip"), "install", "--quiet", f"{ROOT}[{extras}]"], check=True, env=environment, cwd=folder
    )
    passed("pip install")
    with served(bundle, program=[str(programs / "unimoe")], environment=environment) as server:
        passed("server ready")
        body = json.dumps({"input": "Remind me at seven.", "response_format": "wav"}).encode()
        address = f"http://127.0.0.1:{server.port}/v1/audio/speech"
        with urlopen(Request(address, body, {"content-type": "application/json"})) as response:
            answer = response.read()
        if answer[:4] != b"RIFF":
            raise SystemExit("the answer is no WAV file")
        passed("first request")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--extras", default="cpu,serve")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(options.bundle, options.extras, Path(folder))
    machine = describe_machine()
    parts = ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
    text = f"{sum(seconds.values()):.1f} s in all: {parts}. On {machine['cpu']}, {machine['cores']} cores."
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
