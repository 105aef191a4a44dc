"""The small front end, opened."""

from __future__ import annotations

import pytest

from tests.runtime.frontend.small_frontend import write_frontend
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> TimelineFrontEnd:
    opened = open_frontend(write_frontend(tmp_path_factory.mktemp("frontend")))
    assert isinstance(opened, TimelineFrontEnd)
    return opened
