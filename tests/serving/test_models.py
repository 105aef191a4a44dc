"""Bundles by name, before and after loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_serving.config import BundleSource
from unimoe_serving.errors import RequestError
from unimoe_serving.models import ModelRegistry


def test_a_registry_is_ready_when_all_are(tiny_bundle: Path) -> None:
    registry = ModelRegistry([BundleSource(name=name, path=tiny_bundle) for name in ("a", "b")])
    first, second = registry
    assert registry.find("") is first and registry.find("b") is second
    with pytest.raises(RequestError, match="there is no model 'c'; it can be a, b") as missing:
        registry.find("c")
    assert missing.value.status == 404
    for read in (lambda: first.synthesizer, lambda: first.card(), lambda: list(first.voices())):
        with pytest.raises(RequestError, match="still being loaded") as early:
            read()
        assert early.value.status == 503
    first.load()
    assert first.ready and not registry.ready
    second.load()
    assert registry.ready and not first.clones and not first.takes_video
    card = first.card()
    assert card["id"] == "a" and card["tasks"] == ["speech", "music"] and card["layers"] > 0
    assert {voice.task for voice in first.voices()} == {"speech", "music"}
    registry.close()
