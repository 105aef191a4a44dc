"""Errors in OpenAI's form: a status, and `{"error": {message, type, param, code}}` with our one-line message."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

from unimoe_runtime.errors import AudioError, BackendError, ConfigError, PromptError, UnimoeError, VideoError

logger = logging.getLogger("unimoe.serving")

_CALLERS = (PromptError, ConfigError, AudioError, VideoError)
# Request fields by the word that begins a message of the runtime, where the message is about one field.
_FIELDS = {
    "text": "input", "description": "input", "voice": "voice", "speed": "speed", "seed": "seed", "lexicon": "lexicon",
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "guidance_scale": "guidance_scale",
    "eos_factor": "eos_factor", "max_s": "max_seconds",
}  # fmt: skip
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class RequestError(UnimoeError):
    """A refused request. `retry_after_s`: when to try again."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after_s = status, code, param, retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def shutting_down(retry_after_s: float = 1) -> RequestError:
    """The answer of a server that drains."""
    return RequestError("the server is shutting down", status=503, code="draining", retry_after_s=retry_after_s)


def as_request_error(error: Exception) -> RequestError:
    """The error that the caller gets.

    An error of the request keeps its message. An error of the server is logged. Its message may hold the server's
    paths, so the caller gets a general one.
    """
    match error:
        case RequestError():
            return error
        case BackendError() if "no audio within" in str(error):
            return RequestError(str(error), status=503, code="timeout", retry_after_s=1)
        case UnimoeError() if isinstance(error, _CALLERS):
            return RequestError(str(error), code="invalid_value", param=_field(error))
        case UnimoeError():
            logger.error("%s", error)
            return RequestError("the bundle cannot answer: see the server's log", status=500, code="bundle_error")
    logger.error("a request failed", exc_info=error)
    return RequestError("internal error: see the server's log", status=500, code="internal_error")


def _field(error: UnimoeError) -> str | None:
    """The request's field that an error of the runtime is about, as OpenAI's errors name it."""
    first = re.match(r"(?:the |a )?(\w+)", str(error))
    if first and first[1] in _FIELDS:
        return _FIELDS[first[1]]
    match error:
        case VideoError():
            return "video"
        case AudioError():
            return "voice"
        case PromptError():
            return "input"
    return None
