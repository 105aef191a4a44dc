"""The charts of the pages: each a few kilobytes of inline SVG, with tooltips and without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from unimoe_tools.pages.svg import WIDTH, Axes, figure, tag, text


def stacked_steps(
    parts: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    steps: Sequence[int],
    count: int,
    *,
    top: float,
) -> Axes:
    """Stacked milliseconds at some of `count` steps, each as wide as its distance to the next; values above `top` are
    cut off."""
    axes = Axes(x0=0, x1=count, top=top, height=250, labels=("step", "ms"))
    edges = [*steps, count]
    base = [0.0] * len(steps)
    for name, values in parts.items():
        upper = [low + value for low, value in zip(base, values, strict=True)]
        axes.parts.append(_band(axes, edges, base, upper, colours[name], name))
        base = upper
    return axes


def steps_line(axes: Axes, values: Sequence[float]) -> str:
    """A stepped line over values at 0, 1, 2, …, each one unit wide."""
    corners = [
        f"{axes.x(index + side):.1f} {axes.y(min(value, axes.top)):.1f}"
        for index, value in enumerate(values)
        for side in (0, 1)
    ]
    return tag("path", d=f"M{'L'.join(corners)}", class_="steps")


def _band(
    axes: Axes, edges: Sequence[int], lower: Sequence[float], upper: Sequence[float], colour: str, name: str
) -> str:
    def corners(values: Sequence[float], order: range, sides: tuple[int, int]) -> list[str]:
        return [
            f"{axes.x(edges[index + side]):.1f} {axes.y(min(values[index], axes.top)):.1f}"
            for index in order
            for side in sides
        ]

    count = len(lower)
    path = corners(upper, range(count), (0, 1)) + corners(lower, range(count - 1, -1, -1), (1, 0))
    return tag("path", tag("title", escape(name)), d=f"M{'L'.join(path)}Z", fill=colour)


def area(
    axes: Axes, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float], colour: str, name: str
) -> str:
    """The band between two lines."""
    there = [f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in zip(xs, upper, strict=True)]
    back = [f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in zip(xs, lower, strict=True)][::-1]
    return tag("path", tag("title", escape(name)), d=f"M{'L'.join(there + back)}Z", fill=colour)


def bars(axes: Axes, edges: Sequence[float], counts: Sequence[int], unit: str) -> list[str]:
    """A histogram's bars."""
    drawn = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            x, width = axes.x(low), axes.x(high) - axes.x(low)
            title = tag("title", f"{low:.2f} to {high:.2f} {unit}: {count} steps")
            drawn.append(
                tag(
                    "rect", title, x=x + 0.5, y=axes.y(count), width=max(width - 1, 0.5),
                    height=axes.y(0) - axes.y(count), class_="bar",
                )
            )  # fmt: skip
    return drawn


def stacked_rows(
    rows: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], *, unit: str, row_height: int = 22
) -> str:
    """Horizontal stacked bars, one below the other, each with its sum at the end."""
    longest = max(sum(values.values()) for values in rows.values()) or 1.0
    left, right = 92, 62
    scale = (WIDTH - left - right) / longest
    parts = []
    for index, (name, values) in enumerate(rows.items()):
        y, x = index * row_height, float(left)
        parts.append(text(left - 8, y + row_height * 0.68, name, class_="tick end"))
        for part, value in values.items():
            title = tag("title", f"{escape(name)}, {escape(part)}: {value:.3f} {unit}")
            parts.append(
                tag("rect", title, x=x, y=y + 3, width=value * scale, height=row_height - 6, fill=colours[part])
            )
            x += value * scale
        parts.append(text(x + 6, y + row_height * 0.68, f"{sum(values.values()):.3g}", class_="tick"))
    return figure(parts, len(rows) * row_height + 4, "stacked bars")


def heat_map(
    values: Sequence[Sequence[float]], *, columns: Sequence[str], row_name: str, hint: str, width: float = WIDTH
) -> str:
    """Shares from 0 to 1 as cells, one row for each layer; `hint`, in the tooltip, names the whole of the share."""
    left, top = 44, 20
    cell_width = min(46.0, (width - left - 4) / max(len(columns), 1))
    cell_height = 22.0 if len(values) <= 16 else 15.0
    parts = [
        text(left + (index + 0.5) * cell_width, 13, name, class_="tick middle") for index, name in enumerate(columns)
    ]
    for row, shares in enumerate(values):
        y = top + row * cell_height
        parts.append(text(left - 8, y + cell_height * 0.68, f"{row}", class_="tick end"))
        for column, share in enumerate(shares):
            x = left + column * cell_width
            title = tag("title", f"{row_name} {row}, {escape(columns[column])}: {100 * share:.1f} % {escape(hint)}")
            parts.append(
                tag(
                    "rect", title, x=x + 0.5, y=y + 0.5, width=cell_width - 1, height=cell_height - 1, rx=2,
                    class_="cell", style=f"--share:{100 * share:.1f}%",
                )
            )  # fmt: skip
            if share >= 0.005 and cell_width >= 24:
                shade = "on" if share > 0.7 else "off"
                parts.append(
                    text(
                        x + cell_width / 2, y + cell_height * 0.68, f"{100 * share:.0f}", class_=f"cell-text {shade}"
                    )
                )  # fmt: skip
    return figure(parts, top + len(values) * cell_height + 2, "heat map", width)


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], colour: str, name: str, *, dashed: bool = False) -> str:
    """A line through points, each with its value in a tooltip; values above the top are drawn at the top."""
    corners = [(axes.x(x), axes.y(min(y, axes.top))) for x, y in zip(xs, ys, strict=True)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    dashes = {"stroke_dasharray": "5 4"} if dashed else {}
    drawn = tag("path", d=f"M{path}", fill="none", stroke=colour, stroke_width=2, **dashes)
    if dashed:
        return drawn
    dots = (
        tag("circle", tag("title", f"{escape(name)}: {y:.4g} at {x:.4g}"), cx=at_x, cy=at_y, r=4, fill=colour)
        for (at_x, at_y), x, y in zip(corners, xs, ys, strict=True)
    )
    return drawn + "".join(dots)


def ratio_intervals(rows: Sequence[tuple[str, float, float, float, str]], *, margin: float) -> str:
    """Ratios around 1 with their intervals: (name, ratio, low, high, colour), one line each.

    Ratios in the middle band, from 1 / (1 + margin) to 1 + margin, count as no difference.
    """
    left, right, row_height, top = 196, 96, 30, 8
    widest = max(max(abs(math.log(value)) for row in rows for value in row[1:4]), 2 * math.log1p(margin))

    def x(ratio: float) -> float:
        middle = (left + WIDTH - right) / 2
        return middle + math.log(ratio) / widest * (WIDTH - left - right) / 2

    bottom = top + len(rows) * row_height
    parts = [
        tag("rect", x=x(1 / (1 + margin)), y=top, width=x(1 + margin) - x(1 / (1 + margin)), height=bottom - top,
            class_="band"),
        tag("line", x1=x(1), x2=x(1), y1=top, y2=bottom, class_="rule"),
    ]  # fmt: skip
    for index, (name, ratio, low, high, colour) in enumerate(rows):
        y = top + (index + 0.5) * row_height
        title = tag("title", f"{escape(name)}: {ratio:.3f}, {low:.3f} to {high:.3f}")
        parts += [
            text(left - 10, y + 4, name, class_="tick end"),
            tag("line", title, x1=x(low), x2=x(high), y1=y, y2=y, stroke=colour, stroke_width=4),
            tag("circle", title, cx=x(ratio), cy=y, r=6, fill=colour),
            text(WIDTH - right + 10, y + 4, f"{100 * (ratio - 1):+.1f} %", class_="tick"),
        ]
    for ratio in (math.exp(-widest), 1.0, math.exp(widest)):
        parts.append(text(x(ratio), bottom + 16, f"{100 * (ratio - 1):+.1f} %", class_="tick middle"))
    return figure(parts, bottom + 22, "ratios with their intervals")


def count_map(
    counts: Sequence[Sequence[int]], *, columns: Sequence[str], row_name: str, low: Sequence[tuple[int, int]] = ()
) -> str:
    """Counts as cells, one row for each layer, shaded by their logarithm; cells in `low` have a red frame."""
    left, top, cell_height = 62, 20, 24.0
    width = left + 54.0 * len(columns) + 6
    most = math.log1p(max((count for row in counts for count in row), default=1)) or 1.0
    marked = set(low)
    parts = [text(left + (index + 0.5) * 54, 13, name, class_="tick middle") for index, name in enumerate(columns)]
    for row, values in enumerate(counts):
        y = top + row * cell_height
        parts.append(text(left - 8, y + cell_height * 0.66, f"{row_name} {row}", class_="tick end"))
        for column, count in enumerate(values):
            x, share = left + column * 54, math.log1p(count) / most
            title = tag("title", f"{row_name} {row}, {escape(columns[column])}: {count:,}")
            framed = " low" if (row, column) in marked else ""
            parts.append(
                tag(
                    "rect", title, x=x + 1, y=y + 1, width=52, height=cell_height - 2, rx=2, class_=f"cell{framed}",
                    style=f"--share:{85 * share:.1f}%",
                )
            )  # fmt: skip
            shade = "on" if share > 0.75 else "off"
            parts.append(text(x + 27, y + cell_height * 0.66, f"{count:,}", class_=f"cell-text {shade}"))
    return figure(parts, top + len(counts) * cell_height + 4, "counts by layer and expert", width)
