"""Request bodies: JSON and forms, read up to their limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields

_MAX_FIELDS = 32


@asynccontextmanager
async def read_body(request: Request, limits: ServerLimits, *, file: str = "") -> AsyncIterator[Body]:
    """The fields of a JSON body, or of a form if `file` names an allowed upload. The upload is deleted at the end.

    Raises RequestError: 400, 408 (too slow), 413 (too large), 415 (neither JSON nor such a form).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = bool(file) and kind == "multipart/form-data"
    if not is_form and kind != "application/json":
        wanted = "application/json" + (" or multipart/form-data" if file else "")
        raise RequestError(f"the body is {kind or 'of no type'}; send {wanted}", status=415, code="unsupported_type")
    most = limits.max_upload_bytes if is_form else limits.max_json_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    limited = Request(request.scope, _limited(request.receive, most))
    try:
        async with asyncio.timeout(limits.body_s):
            if is_form:
                form = await limited.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=limits.max_json_bytes)
            else:
                values = _parse_json(await limited.body())
    except TimeoutError:
        raise RequestError(f"the body took longer than {limits.body_s:g} s", status=408, code="body_timeout") from None
    except (MultiPartException, HTTPException) as error:
        raise RequestError(f"the form cannot be read: {error}", code="invalid_form") from None
    except ClientDisconnect:
        raise RequestError("the client left", status=499) from None
    if not is_form:
        yield Body(Fields(values), None)
        return
    try:
        yield _form_fields(form, file)
    finally:
        await form.close()


class Body:
    """A body that was read: its fields and the upload, if any."""

    def __init__(self, fields: Fields, upload: UploadFile | None) -> None:
        self.fields, self.upload = fields, upload


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not JSON", code="invalid_json") from None
    if not isinstance(values, dict):
        raise RequestError("the body is not a JSON object", code="invalid_json")
    return values


def _form_fields(form: FormData, file: str) -> Body:
    texts: dict[str, str] = {}
    upload = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != file or upload is not None:
                raise RequestError(f"there is no upload {name!r}; it can be {file}", param=name[:100])
            upload = value
        elif name in texts:
            raise RequestError(f"{name} is given twice", param=name[:100], code="invalid_value")
        else:
            texts[name] = value
    return Body(Fields(texts), upload)


def _limited(receive: Receive, most: int) -> Receive:
    """`receive` that raises RequestError 413 once more than `most` bytes have come."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_large(most)
        return message

    return limited


def _too_large(most: int) -> RequestError:
    return RequestError(f"the body is larger than {most} bytes", status=413, code="body_too_large")
