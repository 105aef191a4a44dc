"""Units of measure: `km/h`, `m²`, `kWh`, `mg/dL`. A unit's row is `one|several`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from unimoe_runtime.frontend.normalisation.numbers import Numbers
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary

_FACTOR = re.compile(r"(?P<divide>/)?(?P<unit>[^/·⋅*^²³]+?)\^?(?P<power>[23²³]?)(?=[/·⋅*]|$)")


def unit_readers(numbers: Numbers, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Reader]:
    """`units` reads an expression of units, singular or plural by the number before it."""
    nothing = Vocabulary(words={})
    units = [vocabularies.get(name, nothing) for name in ("units", "attached_units", "spaced_units")]
    times = vocabularies.get("time_units", nothing)
    terms = numbers.terms

    def name(written: str, *, one: bool) -> list[str]:
        found = next((entry for words in units if (entry := words.find(written)) is not None), written)
        single, _, several = found.partition("|")
        return (single if one or not several else several).split()

    def read(text: str, reading: Reading) -> list[str]:
        words: list[str] = []
        factors = list(_FACTOR.finditer(re.sub(r"\s", "", text) if "/" in text else text))
        for index, factor in enumerate(factors):
            last_above = index + 1 == len(factors) or bool(factors[index + 1]["divide"])
            one = reading.count == "1" or bool(factor["divide"]) or not last_above
            if factor["divide"]:
                words.append(terms["per"])
            power = {"2": "square", "²": "square", "3": "cubic", "³": "cubic"}.get(factor["power"], "")
            written = factor["unit"].strip()
            if power and written in times:
                words += [*name(written, one=one), terms["squared" if power == "square" else "cubed"]]
            else:
                words += [*([terms[power]] if power else []), *name(written, one=one)]
        return words

    def single(text: str, reading: Reading) -> list[str]:
        before, reading.count = reading.count, "1"
        words = read(text, reading)
        reading.count = before
        return words

    def inch_sign(text: str, reading: Reading) -> list[str] | None:
        """Inches, unless the sign ends a quotation."""
        return None if reading.quoted else name(text, one=reading.count == "1")

    def inch_attribute(text: str, reading: Reading) -> list[str] | None:
        """The same as an attribute: a 12" pizza."""
        return None if reading.quoted else name(text, one=True)

    return {"units": read, "unit": single, "inch_sign": inch_sign, "inch_attribute": inch_attribute}
