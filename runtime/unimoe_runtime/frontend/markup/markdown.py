"""Removing Markdown: its marks are not spoken, the marked text is."""

from __future__ import annotations

import re

_LINE_MARKS = (
    (re.compile(r"^[^\S\n]*(?:```|~~~)[^\n]{0,200}$", re.M), ""),  # code fences
    (re.compile(r"^[^\S\n]*(?:[-*_=][^\S\n]?){3,100}$", re.M), ""),  # rules and underlines
    (re.compile(r"^[^\S\n]*\|?(?:[^\S\n]*:?-{2,50}:?[^\S\n]*\|){1,50}(?:[^\S\n]*:?-{2,50}:?)?[^\S\n]*$", re.M), ""),
    (re.compile(r"^[^\S\n]{0,3}#{1,6}[^\S\n]+(.*?)(?:[^\S\n]+#{1,6})?[^\S\n]*$", re.M), r"\1"),
    (re.compile(r"^[^\S\n]*(?:>(?![^\S\n]?[\d$€£.=-])[^\S\n]?){1,5}", re.M), ""),
    (re.compile(r"^[^\S\n]*[-*+][^\S\n]+(?:\[[ xX]\][^\S\n]+)?(?=\S)", re.M), ""),
    (re.compile(r"^[^\S\n]*\[\^?[\w-]{1,50}\]:[^\n]{0,500}$", re.M), ""),  # link targets and footnotes
)
_INLINE_MARKS = (
    (re.compile(r"!\[([^\]\n]{0,300})\]\([^()\s]{0,1000}(?:\s+\"[^\"\n]{0,200}\")?\)"), r"\1"),
    (
        re.compile(r"(?<!\[)\[([^\[\]\n]{1,300})\]\((?!/[^()\n]{1,200}/\))[^()\s]{0,1000}(?:\s+\"[^\"\n]{0,200}\")?\)"),
        r"\1",
    ),
    (re.compile(r"\[\^[\w-]{1,50}\]"), ""),
    (re.compile(r"(?<!\[)\[([^\[\]\n]{1,300})\]\[[^\[\]\n]{0,100}\](?!\])"), r"\1"),
    (re.compile(r"<((?:https?:|mailto:|[\w.+-]{1,64}@)[^<>\s]{1,1000})>"), r"\1"),
    (re.compile(r"(?<!`)(`{1,2})(?!`)([^`\n]{1,300})\1(?!`)"), r"\2"),
    (re.compile(r"(\*{3}|\*{2})(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*])\1"), r"\2"),
    (re.compile(r"(?<!\w)(_{3}|_{2})(?=[^\s_])([^\n]{1,500}?)(?<=[^\s_])\1(?!\w)"), r"\2"),
    (re.compile(r"(?<![\w*)])\*(?=[^\s*])([^*\n]{1,300}?)(?<=[^\s*])\*(?![\w*(])"), r"\1"),
    (re.compile(r"(?<![\w_/\\.])_(?=[^\s_])([^_\n]{1,300}?)(?<=[^\s_])_(?![\w_])"), r"\1"),
    (re.compile(r"~~(?=\S)([^~\n]{1,300}?)(?<=\S)~~"), r"\1"),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])(?!\w)"), r"\1"),
)
_SIGNS = re.compile(r"[#>*_`~\[|\\=-]")


def remove_markdown(text: str) -> str:
    """The text without heading marks, list bullets, emphasis, code marks, quote marks, link targets and rules."""
    if not _SIGNS.search(text):
        return text
    for pattern, kept in (*_LINE_MARKS, *_INLINE_MARKS):
        text = pattern.sub(kept, text)
    return text
