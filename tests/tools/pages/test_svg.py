"""Axes: round ticks within their range, labels that do not overlap."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from unimoe_tools.pages.svg import Axes, nice_ticks, tag


@pytest.mark.parametrize(("bottom", "top"), [(0, 7), (3.4, 3.52), (0, 1234), (0.001, 0.002)])
def test_ticks_lie_in_the_range(bottom: float, top: float) -> None:
    ticks = nice_ticks(top, bottom=bottom)
    assert 2 <= len(ticks) <= 12 and all(bottom - 1e-9 <= tick <= top + 1e-9 for tick in ticks)


def test_labels_of_close_lines_do_not_overlap() -> None:
    axes = Axes(x0=0, x1=10, top=10, height=200, labels=("s", "ms"))
    for value in (5.0, 5.1, 5.05):
        axes.horizontal(value, f"{value}")
    ys = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="note end"', "".join(axes.parts)))
    assert len(ys) == 3 and min(b - a for a, b in pairwise(ys)) >= 13


def test_values_are_escaped() -> None:
    assert tag("text", label='"<&') == '<text label="&quot;&lt;&amp;"/>'
