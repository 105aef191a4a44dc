"""Synthesizers of tiny bundles that speak and play, and the whole audio of a request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.synthesis.streams import REQUEST
from tests.speaking_bundle import CODECS, write_speaking_bundle
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesis, Synthesizer


@pytest.fixture(scope="module", params=CODECS)
def synthesizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    path = write_speaking_bundle(tmp_path_factory.mktemp(request.param), request.param)
    with Synthesizer.open(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(synthesizer: Synthesizer) -> Synthesis:
    return synthesizer.synthesize(SynthesisRequest(**REQUEST))


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    """A synthesizer with our codec, for tests that do not depend on the codec."""
    with Synthesizer.open(write_speaking_bundle(tmp_path_factory.mktemp("speaker"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def timed_speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    """A synthesizer whose codec has the frames a second that its front end expects."""
    with Synthesizer.open(write_speaking_bundle(tmp_path_factory.mktemp("timed"), sample_rate_hz=1600)) as opened:
        yield opened
