"""One set of names for precisions, with the older names."""

from __future__ import annotations

import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.hardware.precisions import (
    PRECISIONS,
    precision_name,
    quantization_scheme,
    scheme_precision,
    shown_precision,
    stored_precision_name,
)


def test_names_go_there_and_back() -> None:
    for name in PRECISIONS:
        assert shown_precision(stored_precision_name(name)) == precision_name(stored_precision_name(name)) == name
    for name in ("int8", "int8-weights", "int4", "fp8"):
        assert scheme_precision(quantization_scheme(name)) == name
    assert shown_precision("float32+int8") == "fp32+int8"


def test_what_is_no_precision() -> None:
    with pytest.raises(ConfigError, match="must be one of fp32"):
        precision_name("fp12")
    with pytest.raises(ConfigError, match="quantized to one of"):
        quantization_scheme("fp16")
