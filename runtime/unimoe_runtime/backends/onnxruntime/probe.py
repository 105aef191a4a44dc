"""Which of ONNX Runtime's providers really open here; the list of providers it was compiled with does not tell.

A script (`python -P probe.py`) that prints JSON, because a provider whose libraries are missing or unfit may
crash the process. It imports nothing of ours.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# y = Identity(x), one float, as ONNX: IR version 8, opset 13.
_IDENTITY = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08'
    b"\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_ELSEWHERE = ("AzureExecutionProvider",)  # runs graphs in the cloud


def probe() -> dict[str, Any]:
    """{"version", "providers": {name: None if it opens, else the reason}} or {"problem": one line}."""
    try:
        import onnxruntime as ort

        return {
            "version": ort.__version__,
            "providers": {name: _try(ort, name) for name in ort.get_available_providers() if name not in _ELSEWHERE},
        }
    except Exception as error:
        return {"problem": (str(error).splitlines() or [type(error).__name__])[0]}


def _try(ort: Any, provider: str) -> str | None:
    said: list[str] = []
    with _native_errors(said):
        try:
            opened = ort.InferenceSession(_IDENTITY, providers=[provider]).get_providers()
        except Exception as error:
            opened, said = [], [str(error)]
    if provider in opened:
        return None
    lines = [line for text in said for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line), lines[0] if lines else "it gives no reason")


@contextlib.contextmanager
def _native_errors(said: list[str]) -> Iterator[None]:
    """Append to `said` what native libraries write to stderr inside the block."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


if __name__ == "__main__":
    json.dump(probe(), sys.stdout)
