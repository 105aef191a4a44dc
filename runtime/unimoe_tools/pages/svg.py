"""Small inline SVG charts, written directly: no plotting package at run time, no scripts, a few kilobytes each.

Colours of text and lines come from the page's style sheet, so that charts match the page on paper and in dark mode.
Tooltips are `<title>` elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 18, 34
_SMALLEST_SCALE = 0.88  # text is at least 11.5 pixels high
_LABEL_HEIGHT = 14.0


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element. Underscores in attribute names become hyphens, `class_` becomes class."""
    words = [f'{key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items()]
    head = " ".join([name, *words])
    return f"<{head}>{content}</{name}>" if content else f"<{head}/>"


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else escape(str(value))


def text(x: float, y: float, words: str, **attributes: object) -> str:
    """A text element; `words` are escaped."""
    return tag("text", escape(words), x=float(x), y=float(y), **attributes)


def figure(content: Sequence[str], height: float, label: str, width: float = WIDTH) -> str:
    """A complete drawing, as wide as the page permits. `label` is the text for screen readers.

    On a narrow screen it scrolls instead of shrinking its text below 10 pixels.
    """
    drawing = tag(
        "svg", "".join(content), viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label,
        xmlns="http://www.w3.org/2000/svg", style=f"min-width:{_SMALLEST_SCALE * width:.0f}px",
    )  # fmt: skip
    return f'<div class="scroll">{drawing}</div>'


def nice_ticks(top: float, count: int = 5, *, bottom: float = 0.0) -> list[float]:
    """About `count` round values from `bottom` to `top`."""
    if top <= bottom:
        return [bottom]
    rough = (top - bottom) / count
    scale = 10 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale >= rough * 0.999)
    first, last = math.ceil(bottom / step - 1e-9), int(top / step + 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]


class Axes:
    """A plot's frame: x from `x0` to `x1`, y from 0 to `top`, both linear, with a light grid and labels."""

    def __init__(
        self,
        *,
        x0: float,
        x1: float,
        top: float,
        height: float,
        labels: tuple[str, str],
        x_ticks: Sequence[float] = (),
    ) -> None:
        """`labels`: of the x axis and the y axis. `x_ticks`: values to label on x, if few; else round values."""
        self.x0, self.x1, self.top, self.height = x0, max(x1, x0 + 1e-9), top or 1.0, height
        self.parts: list[str] = []
        self._label_ys: list[float] = []
        for value in nice_ticks(self.top):
            y = self.y(value)
            self.parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            self.parts.append(text(_LEFT - 7, y + 4, f"{value:g}", class_="tick end"))
        for value in sorted(set(x_ticks)) or nice_ticks(self.x1, 8, bottom=x0):
            self.parts.append(text(self.x(value), height - _BOTTOM + 16, f"{value:g}", class_="tick middle"))
        self.parts.append(text(WIDTH - _RIGHT, height - 4, labels[0], class_="tick end"))
        self.parts.append(text(2, 11, labels[1], class_="tick"))

    def x(self, value: float) -> float:
        """Horizontal place of a value, in units of the drawing."""
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value, in units of the drawing."""
        return self.height - _BOTTOM - value / self.top * (self.height - _TOP - _BOTTOM)

    def horizontal(self, value: float, label: str) -> None:
        """A dashed line. Its label moves up if it would cover another label."""
        y = self.y(value)
        self.parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="rule"))
        label_y = y - 4
        while any(abs(label_y - taken) < _LABEL_HEIGHT for taken in self._label_ys):
            label_y -= 1
        self._label_ys.append(label_y)
        self.parts.append(text(WIDTH - _RIGHT - 2, label_y, label, class_="note end"))

    def vertical(self, value: float, label: str, row: int = 0) -> None:
        """A dashed line; labels of close lines go into different rows."""
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
