"""Which memory moves into huge pages, and that its contents stay."""

from __future__ import annotations

import numpy as np

from unimoe_runtime.backends.onnxruntime.huge_pages import filled_regions, use_huge_pages, zeros_in_huge_pages

_SMAPS = """\
7f0000000000-7f0000a00000 rw-p 00000000 00:00 0
Size:              10240 kB
Rss:               10240 kB
AnonHugePages:         0 kB
7f0001100000-7f0001700000 rw-p 00000000 00:00 0
Size:               6144 kB
Rss:                6000 kB
7f0002000000-7f0002a00000 rw-p 00000000 00:00 0
Size:              10240 kB
Rss:                  64 kB
7f0003000000-7f0003a00000 r--p 00000000 fe:00 12345                      /a/file
Size:              10240 kB
Rss:               10240 kB
7f0004000000-7f0004a00000 rw-p 00000000 00:00 0                          [stack]
Size:              10240 kB
Rss:               10240 kB
7f0005000000-7f0005001000 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   4 kB
"""


def test_large_filled_private_memory_is_chosen() -> None:
    assert list(filled_regions(_SMAPS.splitlines())) == [
        (0x7F0000000000, 0x7F0000A00000),
        (0x7F0001200000, 0x7F0001600000),
    ]


def test_memory_keeps_its_content() -> None:
    values = np.arange(3 << 20, dtype=np.float32)
    total = values.sum(dtype=np.float64)
    assert use_huge_pages() >= 0
    assert values.sum(dtype=np.float64) == total and values[-1] == (3 << 20) - 1


def test_new_memory_is_zero_and_writable() -> None:
    cache_LSX = zeros_in_huge_pages((2, 3, 5))
    assert cache_LSX.shape == (2, 3, 5) and not cache_LSX.any()
    cache_LSX[1] = 1
    assert cache_LSX.sum() == 15
