"""Products of a working folder record the sections that made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.training.products import Products
from unimoe_runtime.errors import ConfigError


def test_a_product_of_other_sections_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    Products(tmp_path).require(corpus, {"data": {"seed": 0}})
    Products(tmp_path).require(corpus, {"data": {"seed": 1}})  # the product was missing: nothing is lost
    corpus.mkdir()
    Products(tmp_path).require(corpus, {"data": {"seed": 1}})
    with pytest.raises(ConfigError, match=r"corpus was made from another \[data\] than the recipe has now; remove it"):
        Products(tmp_path).require(corpus, {"data": {"seed": 2}})
    Products(tmp_path / "older").require(corpus, {"data": {"seed": 2}})  # made by a release that kept no record
