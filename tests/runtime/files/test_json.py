"""JSON and TOML from any source: a value or one line, for any bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.json import parse_json, read_json, read_toml

_QUICK = settings(deadline=None)


@_QUICK
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example("{}".encode("utf-16"))
@example(b'\xef\xbb\xbf{"a": 1}')
@example(b"[1e999, NaN]")
@example(b"1" * 10_000)
def test_any_bytes_are_json_or_one_line(content: bytes) -> None:
    try:
        parse_json(content, "x.json", BundleError)
    except BundleError as error:
        assert str(error).startswith("x.json: ") and "\n" not in str(error) and len(str(error)) < 300


def test_files_in_other_encodings_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content, message in (
        (b"[]", "must hold a JSON object"), ("{}".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b'{"a": "\xe9"}', "is not UTF-8"), (b"[" * 1_000_000, "nested too deep"),
        (b"[" + b"0," * (1 << 20) + b"0]", "is too large"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(BundleError, match=message) as caught:
            read_json(path, BundleError)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path, BundleError) == {"a": 1}


def test_toml_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    for content in ("a = " + "[" * 100_000, "a = ", "[a\n"):
        path.write_text(content)
        with pytest.raises(ConfigError, match="not valid TOML") as caught:
            read_toml(path, ConfigError)
        assert "\n" not in str(caught.value)
