"""Amounts of money. A currency's row is `one|several|one hundredth|several hundredths`; the last two may be missing.

The pattern's groups: `number`, and where written `sign`, `inner_sign` (after the symbol) and `magnitude`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from unimoe_runtime.frontend.normalisation.numbers import Numbers, plain_number
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary

_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_CURRENCIES = ("currencies", "currency_codes", "named_currencies")


def money_readers(numbers: Numbers, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Reader]:
    """`money` reads $2.50 as two dollars fifty cents; `money_kind` reads $2 as an attribute: a two dollar bill.

    `dotted_thousands`: currencies with €1.500 for one thousand five hundred, but €1.509 per litre (`priced_exactly`).
    """
    listed = [vocabularies[name] for name in _CURRENCIES if name in vocabularies]
    nothing = Vocabulary(words={})
    dotted, exact = (vocabularies.get(name, nothing) for name in ("dotted_thousands", "priced_exactly"))
    magnitudes = vocabularies.get("magnitudes", Vocabulary(words={}))

    def read(text: str, reading: Reading, *, kind: bool) -> list[str]:
        found = next((entry for words in listed if (entry := words.find(text)) is not None), "")
        one, several, cent, cents = [*found.split("|"), "", "", ""][:4]
        groups = reading.groups
        magnitude = groups.get("magnitude", "").strip(" -\u00a0")
        written = _with_point(groups["number"], numbers.decimal_sign)
        if text in dotted and not magnitude and groups.get("u", "") not in exact and _THOUSANDS.fullmatch(written):
            written = written.replace(".", "")
        words = [numbers.terms["minus"]] if groups.get("sign") or groups.get("inner_sign") else []
        whole, _, decimals = plain_number(written).partition(".")
        decimals = decimals.rstrip("0")
        if magnitude:
            spoken = f"{magnitudes.find(magnitude)}"
            return [*words, *numbers.number(written), *spoken.split(), *(one if kind else several or one).split()]
        if decimals and (len(decimals) > 2 or not cent):
            return [*words, *numbers.number(f"{whole}.{decimals}"), *(several or one).split()]
        hundredths = int(decimals.ljust(2, "0")) if decimals else 0
        amount = int(whole or 0)
        if amount or not hundredths:
            name = one if amount == 1 or kind else several or one
            words += [*numbers.cardinal(amount), *name.split()]
        if hundredths:
            words += [*numbers.cardinal(hundredths), *(cent if hundredths == 1 or kind else cents or cent).split()]
        return words

    return {
        "money": lambda text, reading: read(text, reading, kind=False),
        "money_kind": lambda text, reading: read(text, reading, kind=True),
    }


def _with_point(written: str, decimal_sign: str) -> str:
    """A comma before one or two final digits, or after groups with full stops, is a decimal sign."""
    if decimal_sign != ".":
        return written.replace(".", "").replace(decimal_sign, ".")
    whole, comma, decimals = written.rpartition(",")
    if comma and (len(decimals) <= 2 or "." in whole) and "." not in decimals:
        return f"{whole.replace('.', '').replace(',', '')}.{decimals}"
    groups = written.split(".")
    if len(groups) > 2 and all(len(group) == 3 for group in groups[1:]):
        return "".join(groups)
    return written
