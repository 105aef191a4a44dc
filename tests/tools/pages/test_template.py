"""The template of every page: escaped, empty parts left out."""

from __future__ import annotations

from unimoe_tools.pages.template import figure_box, notes, page, section, table, verdict


def test_words_are_escaped_and_empty_parts_left_out() -> None:
    whole = page("<b>", "a & b", [section("Nothing"), verdict("fine", passed=True), notes(["WARNING: x", "y"])])
    assert "&lt;b&gt;" in whole and "a &amp; b" in whole and "Nothing" not in whole
    assert 'class="warning"' in whole and 'class="remark"' in whole and "verdict passed" in whole
    assert "<script" not in whole and "http" not in whole


def test_tables_without_rows_are_no_tables() -> None:
    assert table(["a"], []) == "" and "<figure>" in figure_box("t", table(["a"], [["1"]]), "c")
