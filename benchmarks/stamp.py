"""Which checkpoint a published result refers to.

After a measurement, `python -m benchmarks.stamp FILE…` records in results/checkpoints.json that these files refer to
the included checkpoint's current version. A test fails for a recorded file once the checkpoint has changed.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).parent / "results" / "checkpoints.json"


def included_checkpoint() -> str:
    """Sixteen digits of the SHA-256 over the included checkpoint's weights: the model's and the codec's."""
    digest = sha256()
    folder = ROOT / "checkpoints" / "demo"
    for part in (*sorted(folder.glob("model*.safetensors")), folder / "codec" / "model.safetensors"):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def recorded() -> dict[str, str]:
    """The checkpoint of each recorded file, by its path from the root."""
    record: dict[str, str] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return record


def main() -> None:
    record = recorded()
    for name in sys.argv[1:]:
        record[Path(name).resolve().relative_to(ROOT).as_posix()] = included_checkpoint()
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
