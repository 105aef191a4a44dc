"""What the answer to each kind of error tells the caller, and what it hides."""

from __future__ import annotations

import pytest

from unimoe_runtime.errors import AudioError, BackendError, BundleError, ConfigError, PromptError, VideoError
from unimoe_serving.errors import RequestError, as_request_error


@pytest.mark.parametrize("kind", [PromptError, ConfigError, AudioError, VideoError])
def test_the_callers_errors_keep_their_line(kind: type[Exception]) -> None:
    told = as_request_error(kind("the text is empty"))
    assert told.status == 400
    assert told.body["error"] == {
        "message": "the text is empty", "type": "invalid_request_error", "param": "input", "code": "invalid_value",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (ConfigError("top_p is 2; it must be 0 to 1"), "top_p"),
        (ConfigError("the bundle's delay_pattern is odd"), None),
        (PromptError("max_s is -1; it must be 0 to 1e6"), "max_seconds"),
        (PromptError("lexicon, 'Kraków': there are no phonemes"), "lexicon"),
        (PromptError("C9 is out of range: notes can be C2 to C6"), "input"),
        (AudioError("the recording is empty"), "voice"),
        (VideoError("the upload is no video"), "video"),
    ],
)
def test_an_error_names_its_field(error: Exception, field: str | None) -> None:
    assert as_request_error(error).param == field


@pytest.mark.parametrize(
    "error", [BundleError("/srv/x: damaged"), BackendError("/srv/x"), OSError("/srv/x"), ZeroDivisionError()]
)
def test_the_servers_errors_tell_no_path(error: Exception) -> None:
    told = as_request_error(error)
    assert told.status == 500 and "/srv" not in str(told.body) and told.body["error"]["type"] == "server_error"


def test_a_timeout_may_be_tried_again() -> None:
    told = as_request_error(BackendError("there was no audio within 3 s: give it more time"))
    assert told.status == 503 and told.headers == {"retry-after": "1"}


def test_refusals() -> None:
    refused = RequestError("later", status=429, code="queue_full", retry_after_s=2.1)
    assert as_request_error(refused) is refused
    assert refused.headers == {"retry-after": "3"} and refused.body["error"]["type"] == "rate_limit_error"
    assert RequestError("no", status=401).headers == {"www-authenticate": "Bearer"}
