"""The template of every HTML page: self-contained, without scripts, readable on a phone, a laptop and paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from unimoe_tools.pages.style import STYLE

_SHORT = 16  # characters of a cell of short words


def page(title: str, lead: str, body: Iterable[str], *, style: str = "") -> str:
    """A complete page. `lead` is the line under the title; `body` is HTML; `style` extends the common style."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body><main>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n'
        + "\n".join(part for part in body if part)
        + "</main></body></html>\n"
    )


def section(title: str, *content: str, class_: str = "") -> str:
    """A part of the page with its heading; empty without content."""
    inside = "".join(content)
    attribute = f' class="{class_}"' if class_ else ""
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section{attribute}>{heading}{inside}</section>" if inside else ""


def figure_box(title: str, content: str, caption: str = "") -> str:
    """A chart or a table in its frame, with a caption."""
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f"<figure>{heading}{content}{note}</figure>"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = ()) -> str:
    """A table of numbers after a first column of names; columns in `words` hold words. Empty without rows.

    A column of sentences wraps; one of short words stays on one line and takes no more room than they do.
    """
    if not rows:
        return ""
    classes = {
        index: ' class="words"' if max(len(row[index]) for row in rows) > _SHORT else ' class="word"' for index in words
    }
    head = "".join(f"<th{classes.get(index, '')}>{escape(title)}</th>" for index, title in enumerate(titles))
    head = f"<thead><tr>{head}</tr></thead>" if any(titles) else ""
    body = "".join(
        "<tr>" + "".join(f"<td{classes.get(index, '')}>{escape(cell)}</td>" for index, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def cards(figures: Iterable[tuple[str, str, str]]) -> str:
    """The most important figures: name, value and meaning."""
    drawn = "".join(
        f"<div><h3>{escape(name)}</h3><strong>{escape(value)}</strong><p>{escape(note)}</p></div>"
        for name, value, note in figures
    )
    return f'<div class="cards">{drawn}</div>'


def notes(lines: Iterable[str]) -> str:
    """Remarks; those that begin with WARNING are highlighted."""
    return "".join(
        f'<p class="{"warning" if line.startswith("WARNING") else "remark"}">{escape(line)}</p>' for line in lines
    )


def verdict(text: str, *, passed: bool) -> str:
    """The verdict, at the top of the page."""
    return f'<p class="verdict {"passed" if passed else "failed"}">{escape(text)}</p>'
