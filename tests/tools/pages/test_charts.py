"""Charts: drawn values are finite and labelled, and required marks are present."""

from __future__ import annotations

from unimoe_tools.pages.charts import count_map, heat_map, line, ratio_intervals, stacked_rows
from unimoe_tools.pages.svg import Axes


def test_counts_below_the_floor_are_framed() -> None:
    drawn = count_map([[0, 1500], [3, 20]], columns=["0", "null"], row_name="layer", low=[(1, 0)])
    assert drawn.count("cell low") == 1 and "1,500" in drawn and "nan" not in drawn


def test_intervals_stand_around_one() -> None:
    drawn = ratio_intervals([("step", 1.05, 1.02, 1.08, "#c00"), ("RTF", 1.0, 1.0, 1.0, "#000")], margin=0.015)
    assert "+5.0 %" in drawn and "+0.0 %" in drawn and "nan" not in drawn


def test_lines_rows_and_heat() -> None:
    axes = Axes(x0=0, x1=2, top=4, height=100, labels=("threads", "ms"), x_ticks=[1, 2])
    assert line(axes, [1, 2], [3.0, 9.0], "#000", "step").count("<circle") == 2
    assert "layer 0" in stacked_rows({"layer 0": {"a": 1.0}}, {"a": "#000"}, unit="ms")
    assert "50.0 %" in heat_map([[0.5]], columns=["0"], row_name="layer", hint="of steps")
