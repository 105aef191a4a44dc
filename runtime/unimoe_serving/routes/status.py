"""Models, health and metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unimoe_serving.errors import RequestError
from unimoe_serving.metrics import CONTENT_TYPE
from unimoe_serving.service import Service


async def list_models(request: Request, service: Service) -> JSONResponse:
    """`GET /v1/models`."""
    return JSONResponse({"object": "list", "data": [model.card() for model in service.models]})


async def one_model(request: Request, service: Service) -> JSONResponse:
    """`GET /v1/models/{model}`."""
    return JSONResponse(service.models.find(request.path_params["model"]).card())


async def healthz(request: Request, service: Service) -> JSONResponse:
    """Whether the process responds."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request, service: Service) -> JSONResponse:
    """Whether every graph is loaded, a warm-up ran, and the server is not draining."""
    if not service.ready:
        service.admission.require_open()
        waiting = ", ".join(model.name for model in service.models if not model.ready)
        raise RequestError(f"not ready: {waiting} is still being loaded", status=503, code="not_ready", retry_after_s=2)
    return JSONResponse({"status": "ready"})


async def metrics(request: Request, service: Service) -> Response:
    """`GET /metrics`."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
