"""Reading text: from written text to spoken words, by the tables of one language."""

from __future__ import annotations

from unimoe_runtime.frontend.normalisation.language import Language, find_language, open_language, read_language
from unimoe_runtime.frontend.normalisation.normaliser import Normaliser
from unimoe_runtime.frontend.normalisation.numbers import Numbers
from unimoe_runtime.frontend.normalisation.spoken import INNER_PAUSE, STRONGEST_FIRST, Break, Dropped, Item, Pause, Unit

__all__ = [
    "INNER_PAUSE",
    "STRONGEST_FIRST",
    "Break",
    "Dropped",
    "Item",
    "Language",
    "Normaliser",
    "Numbers",
    "Pause",
    "Unit",
    "find_language",
    "open_language",
    "read_language",
]
