"""Picks as bits, in whole steps."""

from __future__ import annotations

import numpy as np

from unimoe_serving.routing_record import RoutingRecord

WEIGHTS_NE = np.array([[0.5, 0, 0.5, 0], [0, 0, 0, 1]], np.float32)
"""Two rows, three routed experts and a null expert."""


def test_steps_are_taken_whole() -> None:
    record = RoutingRecord(num_layers=2)
    assert record.take().masks == ()
    record(0, WEIGHTS_NE)
    assert record.take().masks == (), "the first step is still running"
    for layer in (1, 0):
        record(layer, WEIGHTS_NE)
    first = record.take()
    assert first.as_dict() == {"first_step": 0, "picks": ((0b1101, 0b1101),)}
    record(1, WEIGHTS_NE[:1])
    record(0, WEIGHTS_NE)
    assert record.take().as_dict() == {"first_step": 1, "picks": ((0b1101, 0b0101),)}
    record(1, WEIGHTS_NE)
    assert record.take().first_step == 2
