"""Sample requests of a bundle without a front end are guided pairs."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_tools.parity.sample_requests import standard_requests


def test_requests_without_a_front_end_are_pairs(bundles_by_precision: dict[str, Path]) -> None:
    requests = standard_requests(open_bundle(bundles_by_precision["float"]))
    assert len(requests) == 4 and all(
        isinstance(request.prompt, Prompt) and request.prompt.paired for request in requests
    )
