"""The one vocabulary of precisions: the users' words, and the words that a manifest stores.

    fp32, bf16, fp16     floating-point weights and products
    int8                 weights and inputs in 8 bits, integer products
    int8-weights         weights in 8 bits, inputs in floating point
    int4                 weights in 4 bits, inputs in floating point
    fp8                  weights and inputs in float8 (E4M3)

Older words (`float32`, `w8a8`, `int4-weights`, …) are accepted wherever a precision is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from unimoe_runtime.errors import ConfigError

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8-weights", "int4", "fp8")

_STORED: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int4": "int4-weights"}
_SCHEMES: Mapping[str, str] = {"int8": "w8a8", "int8-weights": "w8", "int4": "w4", "fp8": "fp8"}
_OLDER: Mapping[str, str] = {
    **{stored: name for name, stored in _STORED.items()},
    **{scheme: name for name, scheme in _SCHEMES.items()},
    "half": "fp16", "float": "fp32",
}  # fmt: skip


def precision_name(word: str) -> str:
    """The users' name of a precision, from any word for it. Raises ConfigError for an unknown word."""
    name = _OLDER.get(word.lower(), word.lower())
    if name not in PRECISIONS:
        raise ConfigError(f"precision is {word!r}; it must be one of {', '.join(PRECISIONS)}")
    return name


def stored_precision_name(word: str) -> str:
    """The manifest's name of a precision, from any word for it. Raises ConfigError for an unknown word."""
    name = precision_name(word)
    return _STORED.get(name, name)


def shown_precision(stored: str) -> str:
    """A graph's precision for tables: "float32+int8", of a graph with both, becomes "fp32+int8"."""
    return "+".join(_OLDER.get(part, part) for part in stored.split("+"))


def quantization_scheme(word: str) -> str:
    """The quantization scheme of a precision. Raises ConfigError for a floating-point precision."""
    name = precision_name(word)
    if name not in _SCHEMES:
        raise ConfigError(f"precision is {word!r}; a bundle is quantized to one of {', '.join(_SCHEMES)}")
    return _SCHEMES[name]


def scheme_precision(scheme: str) -> str:
    """The precision of a quantization scheme: `w8a8` is `int8`, `float` is `fp32`."""
    return _OLDER.get(scheme, scheme)
