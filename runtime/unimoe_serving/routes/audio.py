"""`POST /v1/audio/speech`, as OpenAI's clients speak it, and `POST /v1/audio/music`, the same for music."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from unimoe_serving.bodies import read_body
from unimoe_serving.encoders import FORMATS, AudioFormat
from unimoe_serving.fields import Fields
from unimoe_serving.responses import AudioResponse
from unimoe_serving.service import Job, Service


async def speech(request: Request, service: Service) -> Response | ASGIApp:
    """Speak `input`. Fields beyond OpenAI's: `seed`, `sample_rate_hz`, `max_seconds`, sampling, `routing`."""
    arrived = time.perf_counter()
    async with read_body(request, service.limits) as body:
        fields = body.fields
        model = service.find_model(fields)
        fields.ignore("instructions")  # the model has no instructions; apps send them to every TTS server
        audio, stream_format, watch_routing = read_output(fields)
        synthesis = service.read_request(fields, model, "speech")
        fields.finish()
    job = Job(model=model, request=synthesis, audio=audio, watch_routing=watch_routing, arrived=arrived)
    return AudioResponse(service, job, stream_format=stream_format)


async def music(request: Request, service: Service) -> Response | ASGIApp:
    """Play `input` (notes or a description) on `voice` (an instrument), or for a `video` in a form."""
    arrived = time.perf_counter()
    async with read_body(request, service.limits, file="video") as body:
        fields = body.fields
        model = service.find_model(fields)
        audio, stream_format, watch_routing = read_output(fields)
        video = None if body.upload is None else await service.uploads.read_video(model, body.upload.file)
        synthesis = service.read_request(fields, model, "music", video=video)
        fields.finish()
    job = Job(model=model, request=synthesis, audio=audio, watch_routing=watch_routing, arrived=arrived)
    return AudioResponse(service, job, stream_format=stream_format)


def read_output(fields: Fields, default_format: str = "mp3") -> tuple[AudioFormat, str, bool]:
    """Audio format, stream format, and whether the router's picks are requested."""
    audio = AudioFormat(
        name=fields.choice("response_format", FORMATS, default_format),
        sample_rate_hz=fields.integer("sample_rate_hz", 8000, 96_000),
    )
    stream_format = fields.choice("stream_format", ("audio", "sse"), "audio")
    return audio, stream_format, fields.flag("routing")
