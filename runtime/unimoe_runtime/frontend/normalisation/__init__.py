"""Reading text: from what is written to the words that are spoken, by tables of one language."""

from __future__ import annotations

from .language import Language, open_language, read_language
from .normaliser import Dropped, Normaliser
from .spoken import INNER_PAUSE, Break, Item, Pause, Unit

__all__ = [
    "INNER_PAUSE",
    "Break",
    "Dropped",
    "Item",
    "Language",
    "Normaliser",
    "Pause",
    "Unit",
    "open_language",
    "read_language",
]
