"""Weights and caches in huge pages: a decode step reads all of them once, and looks up an address for every page.

Linux gives memory in pages of 4 KB unless a process asks for pages of 2 MB. With huge pages a trunk of 26 MB took a
fifth less time, and an int8 expert a tenth less. A process cannot make its allocator ask for them, so this module asks
afterwards. The kernel then copies the weights once, which takes about 2 s of processor time per gigabyte.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Python's default on Unix is shared memory, which does not count as a process's anonymous memory.
PRIVATE: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_SMAPS = Path("/proc/self/smaps")
_HUGE = 2 << 20
# From Linux's mman-common.h. MADV_COLLAPSE needs Linux 6.1; an older kernel refuses it and collects pages over time.
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
# Regions of which less than this share is in memory are stacks and buffers that fill later. They stay as they are.
_FILLED = 0.9


def use_huge_pages() -> int:
    """Put the process's large, filled blocks of memory into huge pages. Returns the bytes in them now.

    Does nothing on other systems than Linux, or if the kernel refuses.
    """
    collapsed = 0
    with suppress(OSError, AttributeError, ValueError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for begin, end in filled_regions(_SMAPS.read_text(encoding="ascii").splitlines()):
            if madvise(begin, end - begin, _MADV_HUGEPAGE):
                continue
            for address in range(begin, end, _HUGE):
                collapsed += 0 if madvise(address, _HUGE, _MADV_COLLAPSE) else _HUGE
    return collapsed


def zeros_in_huge_pages(shape: Sequence[int]) -> NDArray[np.float32]:
    """Zeros in memory of their own, in huge pages where the system has them. Pages take memory once written."""
    memory = mmap.mmap(-1, 4 * math.prod(shape), **PRIVATE)
    with suppress(OSError, AttributeError):  # another system than Linux, or a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32, math.prod(shape)).reshape(shape)


def filled_regions(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Start and end of the private anonymous regions in the lines of smaps that are mostly in memory.

    Both are multiples of a huge page.
    """
    begin = end = 0
    for line in lines:
        name, _, rest = line.partition(":")
        if "-" in line.split(" ", 1)[0] and not name.endswith(("Size", "Rss")):
            fields = line.split()
            plain = fields[1] == "rw-p" and fields[4] == "0" and (len(fields) == 5 or fields[5] == "[heap]")
            low, high = (int(bound, 16) for bound in fields[0].split("-"))
            begin, end = (-(-low // _HUGE) * _HUGE, high // _HUGE * _HUGE) if plain else (0, 0)
            size = high - low
        elif name == "Rss" and end > begin and 1024 * int(rest.split()[0]) >= _FILLED * size:
            yield begin, end
