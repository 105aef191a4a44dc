"""`/v1/audio/voices`: voices and instruments with descriptions, and callers' own voices if a bundle clones."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from unimoe_runtime.audio.files import READABLE
from unimoe_serving.bodies import read_body
from unimoe_serving.errors import RequestError
from unimoe_serving.service import Service
from unimoe_serving.voices import new_voice


async def list_voices(request: Request, service: Service) -> JSONResponse:
    """All voices, or those of one bundle with `?model=`."""
    wanted = request.query_params.get("model", "")
    models = [service.models.find(wanted)] if wanted else list(service.models)
    cards: list[dict[str, Any]] = []
    for model in models:
        for voice in model.voices():
            cards.append(
                {"object": "audio.voice", "id": voice.name, "name": voice.name, "created_at": model.created,
                 "type": "built_in", "model": model.name, "task": voice.task, "description": voice.description}
            )  # fmt: skip
        cards += [voice.card() for voice in service.voices if voice.model == model.name]
    return JSONResponse({"object": "list", "data": cards, "has_more": False})


async def create_voice(request: Request, service: Service) -> JSONResponse:
    """Store a recording as a voice: a form with `audio_sample`, `name` and `text`, the words of the recording."""
    async with read_body(request, service.limits, file="audio_sample") as body:
        fields = body.fields
        model = service.find_model(fields)
        fields.ignore("consent")  # part of OpenAI's form; the operator of this server is responsible for its voices
        fields.choice("type", ("audio_sample",), "audio_sample")  # OpenAI's form has it; there is no other type
        upload = body.upload
        if upload is None:
            raise RequestError("audio_sample is missing: send a recording in a form", param="audio_sample")
        name = fields.text("name", most=60).strip()
        text = fields.text("text", most=service.limits.max_text_characters).strip()
        description = fields.text("description", "", most=300).strip()
        fields.finish()
        if not model.clones:
            raise RequestError(f"{model.name} does not clone voices", param="model", code="no_cloning")
        if not name or not name.isprintable():
            raise RequestError(f"{name!r} is no name: give one of printable characters", param="name")
        if name in model.synthesizer.frontend.voices:
            raise RequestError(f"{model.name} has a voice {name!r} itself", param="name", code="name_taken")
        if not text:
            raise RequestError("text is empty: the model needs the words of the recording", param="text")
        suffix = PurePath(upload.filename or "").suffix.lower()
        if suffix not in READABLE:
            ending = f"ends in {suffix!r}" if suffix else "has no ending"
            raise RequestError(
                f"the recording's name {ending}; it can be {', '.join(READABLE)}",
                param="audio_sample",
            )
        pcm_L = await service.uploads.read_recording(model, upload.file, suffix)
    voice = new_voice(name=name, text=text, model=model.name, description=description)
    service.voices.add(voice, pcm_L, model.synthesizer.sample_rate_hz)
    return JSONResponse(voice.card(), 201)


async def delete_voice(request: Request, service: Service) -> JSONResponse:
    """`DELETE /v1/audio/voices/{voice_id}`."""
    voice = service.voices.remove(request.path_params["voice_id"])
    return JSONResponse({"object": "audio.voice.deleted", "id": voice.id, "deleted": True})
