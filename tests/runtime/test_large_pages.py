"""Heaps in large pages: their bytes stay what they are, and files, stacks and small regions are left alone."""

from __future__ import annotations

import numpy as np

from unimoe_runtime.backends.large_pages import _heaps, use_large_pages

MAPS = """\
55d0c0000000-55d0c0800000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7f0000400000-7f0000800000 ---p 00000000 00:00 0
7f0000800000-7f0000c00000 r--p 00000000 fe:00 1234                       /bundle/layers/00/trunk.safetensors
7f0000c00000-7f0001000000 rw-p 00000000 fe:00 1235                       /usr/lib/libc.so.6
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
"""


def test_heaps_are_private_writable_and_no_files() -> None:
    assert list(_heaps(MAPS)) == [(0x55D0C0000000, 0x55D0C0800000), (0x7F0000000000, 0x7F0000400000)]


def test_contents_stay() -> None:
    values = np.random.default_rng(0).standard_normal(1 << 21)
    before = values.copy()
    assert use_large_pages() % (2 << 20) == 0
    np.testing.assert_array_equal(values, before)
