"""Marks in a text: Markdown is removed, SSML and marks in double brackets are obeyed."""

from __future__ import annotations

from unimoe_runtime.frontend.markup.markdown import remove_markdown
from unimoe_runtime.frontend.markup.tags import MarkupReader, Run

__all__ = ["MarkupReader", "Run", "remove_markdown"]
