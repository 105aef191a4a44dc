"""Keeping the process small while hundreds of sessions come and go."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Hand freed memory back to the system, where the C library can (glibc): it holds on to what closed sessions
    leave, some tens of megabytes in pieces."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
