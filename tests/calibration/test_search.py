"""Mixed precision: the cost of each graph, and a search within limits."""

from __future__ import annotations

import pytest

from unimoe_calibration.mixed_precision import FLOAT
from unimoe_calibration.search import MixtureLimits, Search
from unimoe_calibration.sensitivity import Sensitivity
from unimoe_runtime.errors import CalibrationError
from unimoe_tools.parity.teacher_forced import Divergence

QUANTIZED = "w4"


def sensitivity(graph: str, scheme: str, loss: float) -> Sensitivity:
    same = Divergence(
        num_tokens=1, max_logit_error=0.0, logit_error=0.0, kl_nats=loss, token_agreement=1.0, router_agreement=1.0,
        equal_sets=1.0,
    )  # fmt: skip
    return Sensitivity(graph=graph, scheme=scheme, divergence=same, router_flips=0)


def made_up_search() -> Search:
    """Graph a gains most by its first step, b only by float; c's middle scheme lies above the line."""
    losses = {"a": (9.0, 1.0), "b": (3.0, 2.9), "c": (2.0, 1.9)}
    found = [
        sensitivity(graph, scheme, loss)
        for graph, pair in losses.items()
        for scheme, loss in zip((QUANTIZED, "w8"), pair, strict=True)
    ]
    sizes = {QUANTIZED: 1.0, "w8": 2.0, FLOAT: 4.0}
    costs = {(graph, scheme): size for graph in losses for scheme, size in sizes.items()}
    return Search(list(losses), FLOAT, found, costs, costs, by_latency=False)


def test_the_line_mends_what_gains_most() -> None:
    search = made_up_search()
    line = [search.choice(moves) for moves in range(len(search) + 1)]
    assert line[0] == dict.fromkeys("abc", QUANTIZED)
    assert [{graph: name for graph, name in choice.items() if name != QUANTIZED} for choice in line[1:]] == [
        {"a": "w8"}, {"a": "w8", "b": FLOAT}, {"a": "w8", "b": FLOAT, "c": FLOAT}, dict.fromkeys("abc", FLOAT),
    ]  # fmt: skip
    losses = [search.point(choice).predicted_loss for choice in line]
    assert losses == sorted(losses, reverse=True) and losses[-1] == 0


def test_limits() -> None:
    search = made_up_search()
    # 7 bytes: a's first step (4), then b's (7); no bytes remain for c.
    assert search.most_faithful(MixtureLimits(max_bytes=7)) == {"a": "w8", "b": FLOAT, "c": QUANTIZED}
    # With 6 neither b nor c fits: the search skips a step that does not fit and continues.
    assert search.most_faithful(MixtureLimits(max_bytes=6)) == {"a": FLOAT, "b": QUANTIZED, "c": QUANTIZED}
    measured = lambda choice: search.point(choice).predicted_loss
    assert search.smallest(MixtureLimits(max_loss=3.5), measured) == {"a": "w8", "b": FLOAT, "c": QUANTIZED}
    assert search.smallest(MixtureLimits(max_loss=0.0), measured) == dict.fromkeys("abc", FLOAT)
    with pytest.raises(CalibrationError, match="smallest mixture takes 3 bytes"):
        search.most_faithful(MixtureLimits(max_latency_ms=2.0))
    with pytest.raises(CalibrationError, match=r"a loss of 3\.5 takes 7 bytes"):
        search.smallest(MixtureLimits(max_loss=3.5, max_bytes=5), measured)
