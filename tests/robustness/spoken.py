"""Cases that speak from a damaged bundle."""

from __future__ import annotations

import random
from pathlib import Path

from tests.robustness.bases import MUSIC, SPEECH
from tests.robustness.cases import Case

# Fields that a bundle's author may set freely: other values give other audio.
FREE_SETTINGS = (
    ("sampling",), ("model", "top_p"), ("model", "top_k"), ("model", "rope_theta"), ("model", "rms_norm_eps"),
    ("provenance",), ("codec", "sample_rate_hz"), ("model", "num_heads"), ("model", "num_kv_heads"),
    ("model", "weighting"), ("model", "selection"), ("codec", "encoder_padding"), ("model", "max_positions"),
)  # fmt: skip


def speak(
    bundle: Path, folder: Path, rng: random.Random, format: str, what: str, *, free: bool = False,
    request: tuple[str, ...] = (),
) -> Case:  # fmt: skip
    request = request or rng.choice((MUSIC, SPEECH))
    extra = rng.choice(((), (), (), ("--stream",), ("--warm",), ("--memory-budget", "1MB")))
    out = folder / "out.wav"
    argv = ("synth", str(bundle), *request, *extra, "--seed", "3", "-o", str(out))
    return Case(format=format, what=what, argv=argv, audio=out, reference=request, free=free, folder=folder)


def is_free(what: str, settings: tuple[tuple[str, ...], ...]) -> bool:
    name = what.removeprefix("without ").split(" ")[0]
    return any(name == ".".join(one) or name.startswith(".".join(one) + ".") for one in settings)
