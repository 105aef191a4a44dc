"""Marks the times at which a request passes the stages from its first byte to its first audio.

    python -m benchmarks.marks FILE serve BUNDLE…

runs `unimoe` with marks, and writes them to FILE when it ends. `mark_library` marks the library in this process. Times
are those of `time.perf_counter`, which all processes of a machine share.
"""

from __future__ import annotations

import atexit
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = {
    "bytes": "the request's bytes reach the server",
    "called": "HTTP parsed",
    "checked": "fields read and checked",
    "thread": "a thread begins",
    "prompt": "prompt prepared",
    "reading": "the step thread begins",
    "read": "prompt read",
    "step": "steps",
    "woken": "the reader wakes",
    "chunk": "codec",
    "encoded": "samples in the format",
    "loop": "the event loop has them",
    "sent": "head and samples sent",
}
"""Marks and the stages that they end, in order. The library has those from `prompt` to `chunk`."""


@dataclass(frozen=True)
class Mark:
    """A stage's end: wall time, and the CPU time of the process."""

    name: str
    at_s: float
    cpu_s: float


MARKS: list[Mark] = []


def mark_library() -> None:
    """Mark the stages within the library."""
    from unimoe_runtime.synthesis.chunks import ChunkMaker
    from unimoe_runtime.synthesis.request_reader import RequestReader
    from unimoe_runtime.synthesis.scheduler import StepScheduler

    _mark_end(RequestReader, "parts", "prompt")
    _mark_begin(StepScheduler, "_read", "reading")
    _mark_end(StepScheduler, "_read", "read")
    _mark_end(StepScheduler, "_step", "step")
    _mark_begin(ChunkMaker, "take", "woken")
    _mark_end(ChunkMaker, "chunk", "chunk")


def mark_server() -> None:
    """Mark the stages of the server around those of the library."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

    from unimoe_serving import live_stream, responses
    from unimoe_serving.guard import Guard

    _mark_begin(HttpToolsProtocol, "data_received", "bytes")
    _mark_begin(Guard, "_check", "called")
    _mark_begin(responses.AudioResponse, "__init__", "checked")
    _mark_begin(live_stream, "open_encoder", "thread")
    _mark_begin(live_stream, "Piece", "encoded")
    _mark_end(live_stream.LiveStream, "_take", "loop")
    _mark_sent(RequestResponseCycle)


def first_of_each(marks: Sequence[Mark]) -> dict[str, Mark]:
    """The first mark of each name; of `read` and `step` the last one before the first chunk."""
    found: dict[str, Mark] = {}
    for mark in marks:
        if mark.name not in found or (mark.name in ("read", "step") and "woken" not in found):
            found[mark.name] = mark
    return found


def _mark(name: str) -> None:
    MARKS.append(Mark(name, time.perf_counter(), time.process_time()))


def _mark_begin(owner: Any, attribute: str, name: str) -> None:
    wrapped: Callable[..., Any] = getattr(owner, attribute)

    def marked(*arguments: Any, **named: Any) -> Any:
        _mark(name)
        return wrapped(*arguments, **named)

    setattr(owner, attribute, marked)


def _mark_end(owner: Any, attribute: str, name: str) -> None:
    wrapped: Callable[..., Any] = getattr(owner, attribute)

    def marked(*arguments: Any, **named: Any) -> Any:
        result = wrapped(*arguments, **named)
        _mark(name)
        return result

    setattr(owner, attribute, marked)


def _mark_sent(cycle: Any) -> None:
    send = cycle.send

    async def marked(self: Any, message: Any) -> None:
        await send(self, message)
        if message.get("body"):
            _mark("sent")

    cycle.send = marked


def _write(path: Path) -> None:
    path.write_text(json.dumps([(mark.name, mark.at_s, mark.cpu_s) for mark in MARKS]))


def main() -> None:
    path, *arguments = sys.argv[1:]
    atexit.register(_write, Path(path))
    mark_library()
    mark_server()
    sys.argv = ["unimoe", *arguments]
    from unimoe.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
