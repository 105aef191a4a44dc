"""JSON lines that grow while their maker runs: an incomplete line is skipped, a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.data.json_lines import append_json_lines, read_json_lines
from unimoe_runtime.errors import OutputError


def test_a_line_cut_off_by_a_kill_stays_separate(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path) == []
    path.write_text('{"key": 1}\n{"key": 2, "te', encoding="utf-8")
    with append_json_lines(path) as write:
        write({"key": 3, "text": "a\u2028b"})
    assert read_json_lines(path, "key") == [{"key": 1}, {"key": 3, "text": "a\u2028b"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"key": 1}\n'.encode("utf-16"), "is UTF-16; save it as UTF-8"), (b'{"key": "\xe9"}\n', "is not UTF-8"),
        (b"[" * 100_000, ":1: is nested too deep"), (b"3\n", ":1: is no object with key"),
        (b'{"key": 1}\n{"other": 1}\n', ":2: is no object with key"),
    ],
)  # fmt: skip
def test_another_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lines.jsonl").write_bytes(content)
    with pytest.raises(OutputError, match=message) as caught:
        read_json_lines(tmp_path / "lines.jsonl", "key")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_bytes(b'\xef\xbb\xbf{"key": 1}\r\n{"key": 2}')
    assert read_json_lines(tmp_path / "lines.jsonl", "key") == [{"key": 1}, {"key": 2}]
