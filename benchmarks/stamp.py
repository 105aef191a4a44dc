"""Which checkpoint a published result refers to.

After a measurement, `python -m benchmarks.stamp FILE…` records in results/checkpoints.json that these files refer to
the current version of an included checkpoint, `demo` or, with `--checkpoint voices`, `voices`. A test fails for a
recorded file once the checkpoint has changed.
"""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).parent / "results" / "checkpoints.json"


INCLUDED = ("demo", "voices")


def included_checkpoint(name: str = "demo") -> str:
    """Sixteen digits of the SHA-256 over an included checkpoint's weights: the model's and the codec's."""
    digest = sha256()
    folder = ROOT / "checkpoints" / name
    for part in (*sorted(folder.glob("model*.safetensors")), folder / "codec" / "model.safetensors"):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def recorded() -> dict[str, str]:
    """The checkpoint of each recorded file, by its path from the root."""
    record: dict[str, str] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--checkpoint", choices=INCLUDED, default="demo")
    wanted = parser.parse_args()
    record, checkpoint = recorded(), included_checkpoint(wanted.checkpoint)
    for file in wanted.files:
        record[file.resolve().relative_to(ROOT).as_posix()] = checkpoint
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
