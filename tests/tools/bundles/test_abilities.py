"""A bundle's abilities: names, limits, and one line if it cannot speak."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError
from unimoe_tools.bundles.abilities import read_abilities


def test_a_language_model_alone_says_so(reference_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no front end"):
        read_abilities(open_bundle(reference_bundle))
