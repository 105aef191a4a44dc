"""Routing statistics: weighted by steps, with their distribution; damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config
from tests.routing_records import record
from unimoe_runtime.bundle.routing_statistics import (
    assumed_activation,
    parse_activation,
)
from unimoe_runtime.errors import ConfigError


def test_activation_is_weighted_by_steps_and_knows_its_distribution() -> None:
    found = parse_activation(record(), tiny_config(), "here")
    assert found.mean == pytest.approx(2 * 1.75)
    assert (found.low, found.high) == (2.0, 4.0)
    assert [found.quantile(share) for share in (0.05, 0.4, 0.95)] == [2, 3, 4]
    first = np.zeros((2, 4), dtype=np.bool_)
    first[:, 0] = True
    assert found.resident_share(first) == pytest.approx(1 / 1.75)


def test_assumed_activation_is_the_union_of_independent_rows() -> None:
    found = assumed_activation(tiny_config(num_routed_experts=8))
    assert found.mean == pytest.approx(2 * 3.5)
    np.testing.assert_allclose(found.launched_LK.sum(axis=1), 1)
    assert (found.launched_LK @ np.arange(9)).sum() == pytest.approx(found.mean)
    assert "assumed" in found.source
    assert assumed_activation(tiny_config(num_routed_experts=0, num_null_experts=0)).mean == 0
    many = assumed_activation(tiny_config(num_routed_experts=2000))  # its binomial coefficients exceed a float
    np.testing.assert_allclose(many.launched_LK.sum(axis=1), 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["tasks"].clear(),
        lambda found: found.pop("rows"),
        lambda found: found["tasks"]["speech"].pop("launch_share"),
        lambda found: found["tasks"]["speech"].update(launched_histogram=[[1]]),
        lambda found: found.update(tasks=[1]),
    ],
)
def test_a_damaged_record_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    found = record()
    damage(found)
    with pytest.raises(ConfigError, match=r"^here: "):
        parse_activation(found, tiny_config(), "here")
