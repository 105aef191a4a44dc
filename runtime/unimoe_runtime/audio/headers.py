"""Whether an audio file is cut off: the end of its samples by its header, against its size.

libsndfile reads a file that was cut off, such as an interrupted download, without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from unimoe_runtime.errors import AudioError

_UNKNOWN: Final = 0x7FFF0000
"""Programs that write into a pipe put sizes from here on, or 0, for an unknown size."""
_MAX_CHUNKS: Final = 1000
_BYTE_ORDERS: Final[Mapping[bytes, Literal["little", "big"]]] = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}
"""The order of bytes in the sizes of WAV and AIFF chunks, by the file's first four bytes."""


def require_complete(path: Path) -> None:
    """Raise AudioError if a WAV, AIFF or AU file has fewer bytes than its header says. Raises OSError."""
    promised, present = samples_end(path), path.stat().st_size
    if promised > present:
        raise AudioError(
            f"{path} is cut off: by its header it has {promised:,} bytes, {present:,} are there: copy it again"
        )


def samples_end(path: Path) -> int:
    """The number of bytes up to the end of the samples by the file's header; 0 if the header does not say it."""
    with path.open("rb") as file:
        begin = file.read(12)
        order = _BYTE_ORDERS.get(begin[:4])
        if begin[:4] == b".snd":
            offset, size = int.from_bytes(begin[4:8], "big"), int.from_bytes(begin[8:12], "big")
            return offset + size if 0 < size < _UNKNOWN else 0
        if order is None:
            return 0
        place = len(begin)
        for _ in range(_MAX_CHUNKS):
            file.seek(place)
            header = file.read(8)
            if len(header) < 8:
                return 0
            size = int.from_bytes(header[4:], order)
            if header[:4] in (b"data", b"SSND"):
                return place + 8 + size if 0 < size < _UNKNOWN else 0
            place += 8 + size + size % 2
    return 0
