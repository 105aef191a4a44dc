"""The hash of a file, and one line where it cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.hashes import FileInfo, sha256_of


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match=r"cannot be read \([^\n]+\)$"):
            sha256_of(path)


@pytest.mark.parametrize("size", [-1, 1 << 60, "7", None, 1.5])
def test_a_size_is_a_count_of_bytes(size: object) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        FileInfo.from_dict({"bytes": size, "sha256": "0" * 64})
