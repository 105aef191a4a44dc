"""Keeping a process's memory small while hundreds of sessions open and close."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_BLOCK_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """From now on, the process returns the memory of large blocks to the system as soon as it is freed.

    glibc starts with this behaviour, but each freed large block raises the size from which it applies. It then keeps
    the fragments that closed sessions leave: some tens of megabytes more at the peak. Other C libraries stay as
    they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
