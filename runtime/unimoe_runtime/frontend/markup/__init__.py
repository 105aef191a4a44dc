"""Markup in a text: it removes Markdown, and applies SSML and marks in double brackets."""

from __future__ import annotations

from unimoe_runtime.frontend.markup.markdown import remove_markdown
from unimoe_runtime.frontend.markup.tags import MarkupReader, Run

__all__ = ["MarkupReader", "Run", "remove_markdown"]
