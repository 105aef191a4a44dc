"""Memory that every decode step walks through, in pages of 2 MB where Linux gives them.

A step touches all weights and each session's own objects, spread over thousands of pages of 4 KB: more than a core's
table of pages holds, and in a virtual machine each miss costs two walks. Measured in benchmarks/results.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

_PAGE = 2 << 20
_MOST_PAGES = 256  # a page takes 1 to 8 ms to fill
_MADV_COLLAPSE = 25  # Linux 6.1 and later
_MAPS = Path("/proc/self/maps")


def use_large_pages() -> int:
    """Put this process's heaps, up to 512 MB of them, into large pages; what comes later stays as it is.

    Returns how many bytes lie in such pages: 0 on systems that do not know them, or forbid them. Memory is rounded
    up to whole pages.
    """
    try:
        madvise = ctypes.CDLL(None).madvise
        regions = list(_heaps(_MAPS.read_text(encoding="utf-8")))
    except (AttributeError, OSError):
        return 0
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    pages = [page for begin, end in regions for page in range(-(-begin // _PAGE) * _PAGE, end - _PAGE + 1, _PAGE)]
    return sum(_PAGE for page in pages[:_MOST_PAGES] if madvise(page, _PAGE, _MADV_COLLAPSE) == 0)


def _heaps(maps: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each region of /proc/self/maps that is private, writable and no file's."""
    for line in maps.splitlines():
        addresses, access, _offset, _device, inode, *name = line.split(maxsplit=5)
        if access == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            begin, end = addresses.split("-")
            yield int(begin, 16), int(end, 16)
