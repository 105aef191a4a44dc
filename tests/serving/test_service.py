"""The part that all protocols share: fields become requests, streams hold slots, and every ending is counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.running import LONG
from tests.serving.services import job, with_service
from unimoe_runtime import AudioError, BundleError, PromptError
from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields
from unimoe_serving.service import Service
from unimoe_serving.voices import new_voice


def ended(service: Service) -> dict[str, float]:
    samples = (sample for family in service.metrics.registry.collect() for sample in family.samples)
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.name == "unimoe_streams_ended_total"}


def test_requests(tiny_bundle: Path) -> None:
    async def use(service: Service) -> None:
        model = service.models.find("")
        fields = Fields({"input": "Hello.", "temperature": 0.5, "top_k": 3, "max_seconds": 2, "lexicon": {"a": "EY"}})
        request = service.read_request(fields, model, "speech")
        assert request.sampling is not None and (request.sampling.temperature, request.sampling.top_k) == (0.5, 3)
        assert request.limits is not None and request.limits.max_s == 2
        assert request.lexicon == {"a": "EY"} and request.timeout_s == service.limits.stream_s
        for task, values, told in (
            ("speech", {"input": "x", "voice": "flute"}, "no voice 'flute'"),
            ("music", {"input": "C4", "voice": "ann"}, "no instrument 'ann'"),
            ("dance", {"input": "x"}, "has no dance"),
        ):
            with pytest.raises(RequestError, match=told):
                service.read_request(Fields(values), model, task)

    with_service(tiny_bundle, use)


def test_every_end_is_counted(tiny_bundle: Path) -> None:
    """Streams that complete, fail, lose their reader, and are cancelled twice."""

    async def use(service: Service) -> None:
        async def read(text: str) -> None:
            async with service.stream(job(service, text)) as live:
                async for _ in live:
                    pass

        await read("Hello.")
        with pytest.raises(PromptError, match="nothing to say"):
            await read("?!")
        with pytest.raises(ConnectionError):
            async with service.stream(job(service, LONG)) as live:
                await anext(live)
                raise ConnectionError
        task = asyncio.create_task(read(LONG))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.admission.active == 0
        counts = ended(service)
        assert counts.pop("complete", 0) + counts.pop("cut", 0) == 1
        assert counts == {"failed": 1, "cancelled": 2}

    with_service(tiny_bundle, use)


def test_a_voice_that_is_damaged_or_deleted_amid_requests(tiny_bundle: Path, tmp_path: Path) -> None:
    """The caller hears of the voice, not of the recording's path."""

    async def use(service: Service) -> None:
        voice = new_voice(name="eve", text="hello", model="tiny", description="")
        service.voices.add(voice, np.zeros(1600, np.float32), 16000)
        stored = service.voices.find("eve", "tiny")
        assert stored is not None
        recording, speech = str(stored.recording), job(service, "Hello.")
        speech = replace(speech, request=replace(speech.request, voice=recording, voice_text="hello"))

        async def refusal_of() -> RequestError:
            with pytest.raises(RequestError) as refused:
                async with service.stream(speech):
                    raise AudioError(f"{recording} cannot be read")
            assert str(tmp_path) not in str(refused.value)
            return refused.value

        assert (await refusal_of()).code == "voice_unreadable"
        service.voices.remove(voice.id)
        assert (await refusal_of()).code == "voice_not_found"
        assert ended(service) == {"failed": 2}

    with_service(tiny_bundle, use, voices_dir=tmp_path)


def test_a_bundle_that_cannot_be_loaded(tmp_path: Path) -> None:
    async def nothing(service: Service) -> Any:
        raise AssertionError

    with pytest.raises(BundleError, match="not a bundle"):
        with_service(tmp_path, nothing)
