"""A service without a server, and requests to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from unimoe_serving.config import BundleSource, ServerConfig
from unimoe_serving.encoders import AudioFormat
from unimoe_serving.fields import Fields
from unimoe_serving.service import Job, Service

WAV = AudioFormat(name="wav")


def with_service(bundle: Path, use: Callable[[Service], Awaitable[None]], *, voices_dir: Path | None = None) -> None:
    async def run() -> None:
        service = Service(ServerConfig(bundles=(BundleSource(name="tiny", path=bundle),), voices_dir=voices_dir))
        service.start_loading()
        try:
            await service.loaded()
            async with asyncio.timeout(60):
                await use(service)
        finally:
            await service.close()

    asyncio.run(run())


def job(service: Service, text: str) -> Job:
    model = service.models.find("tiny")
    request = service.read_request(Fields({"voice": "ann", "speed": 1}), model, "speech", text=text)
    return Job(model=model, request=request, audio=WAV)
