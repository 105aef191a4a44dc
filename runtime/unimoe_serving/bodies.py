"""Request bodies: JSON and forms, read up to their limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields, given_twice, parse_object

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
                form = await _read_form(limited, limits)
            else:
                values = parse_object(await limited.body(), "body")
    except TimeoutError:
        raise RequestError(f"the body took longer than {limits.body_s:g} s", status=408, code="body_timeout") from None
    except MultiPartException as error:
        raise RequestError(f"the form cannot be read: {error.message}", code="invalid_form") from None
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


class _FormParser(MultiPartParser):
    """Starlette's parser, for a form of UTF-8 alone that may not break off before its end."""

    ended = False

    def on_end(self) -> None:
        """The last boundary was read."""
        self.ended = True

    async def parse(self) -> FormData:
        """The form. Raises MultiPartException."""
        form = await super().parse()
        try:
            if not self.ended:
                raise MultiPartException("It ends before its last boundary.")
            items = [
                (_utf8(name), value if isinstance(value, UploadFile) else _utf8(value))
                for name, value in form.multi_items()
            ]
            return FormData(items)
        except MultiPartException:
            await form.close()
            raise


async def _read_form(request: Request, limits: ServerLimits) -> FormData:
    kind, *settings = request.headers["content-type"].split(";")
    boundary = [setting for setting in settings if setting.strip().lower().startswith("boundary")]
    # Latin-1 keeps every byte. Starlette would otherwise read what is not UTF-8 as if it were Latin-1.
    headers = Headers({"content-type": ";".join([kind, *boundary, "charset=latin-1"])})
    async with aclosing(request.stream()) as stream:
        parser = _FormParser(
            headers, stream, max_files=1, max_fields=_MAX_FIELDS, max_part_size=limits.max_json_bytes
        )  # fmt: skip
        return await parser.parse()


def _utf8(value: str) -> str:
    """A text that was read as Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise MultiPartException("A field is not UTF-8.") from None


def _form_fields(form: FormData, file: str) -> Body:
    texts: dict[str, str] = {}
    upload = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != file or upload is not None:
                raise RequestError(f"there is no upload {name!r}; it can be {file}", param=name[:100])
            upload = value
        elif name in texts:
            raise given_twice(name)
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
