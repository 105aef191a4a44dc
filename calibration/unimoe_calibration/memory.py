"""Keeping a process small while hundreds of sessions come and go."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_BLOCK_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """For the rest of the process, memory of large blocks goes back to the system as soon as it is freed.

    glibc begins so, but raises the size from which it does with every large block that is freed, and then holds on to
    what closed sessions leave in pieces: some tens of megabytes more at the peak. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
