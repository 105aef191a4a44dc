"""Scales and arpeggios."""

from __future__ import annotations

from unimoe_runtime.frontend.patterns import ARPEGGIOS, INTERVALS, SCALES, SYNONYMS


def test_every_pattern_has_notes_and_every_synonym_a_pattern() -> None:
    assert all(len(steps) > 2 for steps in (*SCALES.values(), *ARPEGGIOS.values()))
    assert set(SYNONYMS.values()) <= {*SCALES, *ARPEGGIOS}
    assert INTERVALS
