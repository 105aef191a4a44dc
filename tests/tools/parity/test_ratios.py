"""Ratios with intervals, and agreement, of hand-made values."""

from __future__ import annotations

import numpy as np

from unimoe_tools.parity.agreement import mean, routing_agreement, token_agreement
from unimoe_tools.parity.ratios import Verdict, paired_ratio, separate_ratio, verdict_of


def test_a_planted_difference_is_found_and_drift_widens() -> None:
    random = np.random.default_rng(0)
    before = np.log(4.0) + random.normal(0, 0.003, 30)
    after = before + np.log(1.1)
    assert paired_ratio("step", [(before, after)]).verdict == Verdict.SLOWER
    assert paired_ratio("step", [(after, before)]).verdict == Verdict.FASTER
    assert separate_ratio("step", [(before, after)], drift=0.2).verdict == Verdict.UNCLEAR
    assert verdict_of(0.999, 1.001) == Verdict.SAME


def test_agreement_by_hand() -> None:
    first, second = np.array([[1, 0], [1, 1]], bool), np.array([[1, 0], [0, 1]], bool)
    found = routing_agreement([first], [second])
    assert found.decisions == 0.75 and found.sets == 0.5
    assert mean(token_agreement(np.eye(2), np.eye(2)[::-1])) == 0 and mean(np.zeros(0, bool)) == 1
