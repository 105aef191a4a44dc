"""Rules: patterns that refer to others, and the reading of a match."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation.rules import Reader, Reading, expand, parse_rule, render


def say(say: str, text: str, count: str = "") -> list[str] | None:
    rule = parse_rule(["name", "0", r"«a:digit»(?P<b>x)?", say], {"digit": r"\d"})
    match = rule.pattern.match(text)
    assert match is not None
    readers: dict[str, Reader] = {"twice": lambda text, _: [text, text], "refuse": lambda text, _: None}
    return render(rule, match, readers, Reading(known=lambda word: False, count=count))


def test_patterns_name_others() -> None:
    assert expand("«a:one»|«two»", {"one": "«two»1", "two": "2"}) == "(?P<a>(?:2)1)|(?:2)"
    with pytest.raises(KeyError):
        expand("«none»", {})


def test_a_part_in_brackets_needs_its_groups() -> None:
    assert say("about {a:twice}[ and {b:twice}]", "5") == ["about", "5", "5"]
    assert say("about {a:twice}[ and {b:twice}]", "5x") == ["about", "5", "5", "and", "x", "x"]


def test_one_and_several_and_refusal() -> None:
    assert say("foot|feet", "5", "1") == ["foot"]
    assert say("foot|feet", "5", "2") == ["feet"]
    assert say("{a:refuse}", "5") is None
