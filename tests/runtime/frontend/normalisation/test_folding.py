"""Characters that look alike become one."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation.folding import fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("it’s", "it's"),
        ("“so”", '"so"'),
        ("a‑b", "a-b"),
        ("café", "cafe"),
        ("cafe\u0301", "cafe"),
        ("Straße", "Strasse"),
        ("ｆｕｌｌ５", "full5"),
        ("ﬁ", "fi"),
        ("٣", "3"),
        ("a\u200bb", "ab"),
        ("a\u2003b", "a b"),
        ("x²", "x²"),
        ("½", "½"),
        ("№ ™ ℃", "№ ™ ℃"),
        ("a\r\nb", "a\nb"),
        ("α", "α"),
        ("−5", "−5"),
    ],
)
def test_lookalikes(text: str, folded: str) -> None:
    assert fold(text, {"ß": "ss"}) == folded
