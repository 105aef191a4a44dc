"""Small inline SVG charts, written directly: no plotting package at run time, no scripts, a few kilobytes each.

Colours of text and lines come from the page's style sheet, so that charts follow the page onto paper and into the
dark. Tooltips are `<title>` elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 18, 34


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element. Underscores in attribute names become hyphens, `class_` becomes class."""
    words = [f'{key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items()]
    head = " ".join([name, *words])
    return f"<{head}>{content}</{name}>" if content else f"<{head}/>"


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else escape(str(value))


def text(x: float, y: float, words: str, **attributes: object) -> str:
    return tag("text", escape(words), x=float(x), y=float(y), **attributes)


def figure(content: Sequence[str], height: float, label: str, width: float = WIDTH) -> str:
    """A whole drawing, as wide as the page lets it be. `label` is for those who cannot see it."""
    return tag(
        "svg", "".join(content), viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def nice_ticks(top: float, count: int = 5) -> list[float]:
    """About `count` round values from 0 to `top`."""
    if top <= 0:
        return [0.0]
    rough = top / count
    scale = 10 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale >= rough * 0.999)
    return [step * index for index in range(int(top / step + 1e-9) + 1)]


class Axes:
    """A plot's frame: x from `x0` to `x1`, y from 0 to `top`, both linear, with a light grid and labels."""

    def __init__(self, *, x0: float, x1: float, top: float, height: float, x_label: str, y_label: str) -> None:
        self.x0, self.x1, self.top, self.height = x0, max(x1, x0 + 1e-9), top or 1.0, height
        self.parts: list[str] = []
        for value in nice_ticks(self.top):
            y = self.y(value)
            self.parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            self.parts.append(text(_LEFT - 7, y + 4, f"{value:g}", class_="tick end"))
        for value in nice_ticks(self.x1, 8):
            if value >= x0:
                self.parts.append(text(self.x(value), height - _BOTTOM + 16, f"{value:g}", class_="tick middle"))
        self.parts.append(text(WIDTH - _RIGHT, height - 4, x_label, class_="tick end"))
        self.parts.append(text(2, 11, y_label, class_="tick"))

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.height - _BOTTOM - value / self.top * (self.height - _TOP - _BOTTOM)

    def horizontal(self, value: float, label: str) -> None:
        y = self.y(value)
        self.parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="rule"))
        self.parts.append(text(WIDTH - _RIGHT - 2, y - 4, label, class_="note end"))

    def vertical(self, value: float, label: str, row: int = 0) -> None:
        x = self.x(value)
        self.parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=self.height - _BOTTOM, class_="rule"))
        late = x > WIDTH - 120
        self.parts.append(
            text(x - 4 if late else x + 4, _TOP + 11 + 14 * row, label, class_="note end" if late else "note")
        )


def legend(colours: Mapping[str, str]) -> str:
    """Names beside their colours, as HTML."""
    items = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items()
    )
    return f'<p class="legend">{items}</p>'


def stacked_steps(
    parts: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    steps: Sequence[int],
    count: int,
    *,
    top: float,
    x_label: str,
    y_label: str,
) -> Axes:
    """Values stacked upon each other at some of `count` steps, each as wide as it is to the next; what passes `top` is
    cut off there."""
    axes = Axes(x0=0, x1=count, top=top, height=250, x_label=x_label, y_label=y_label)
    edges = [*steps, count]
    base = [0.0] * len(steps)
    for name, values in parts.items():
        upper = [low + value for low, value in zip(base, values, strict=True)]
        axes.parts.append(_band(axes, edges, base, upper, colours[name], name))
        base = upper
    return axes


def steps_line(axes: Axes, values: Sequence[float]) -> str:
    """A line over values at 0, 1, 2, …, each as wide as one."""
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
    """Horizontal bars under each other, each a stack; its sum stands at the end."""
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
        parts.append(text(x + 6, y + row_height * 0.68, f"{sum(values.values()):.3f}", class_="tick"))
    return figure(parts, len(rows) * row_height + 4, "stacked bars")


def heat_map(
    values: Sequence[Sequence[float]], *, columns: Sequence[str], row_name: str, hint: str, width: float = WIDTH
) -> str:
    """Shares from 0 to 1 as cells, a row a layer; `hint` says in a tooltip what a share is of."""
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
