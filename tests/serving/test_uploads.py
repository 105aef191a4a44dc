"""Uploads are read from a file that is removed afterwards, for any content."""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path

import pytest

from tests.recordings import write_recording
from unimoe_serving.config import BundleSource
from unimoe_serving.errors import RequestError
from unimoe_serving.models import ServedModel
from unimoe_serving.uploads import Uploads


@pytest.fixture(scope="module")
def model(public_bundle: Path) -> ServedModel:
    served = ServedModel(source=BundleSource(name="public", path=public_bundle))
    served.load()
    return served


def test_recordings(model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    recording = write_recording(tmp_path / "eve.wav", 220).read_bytes()
    uploads = Uploads()

    async def read(content: bytes, suffix: str) -> int:
        return len(await uploads.read_recording(model, io.BytesIO(content), suffix))

    assert asyncio.run(read(recording, ".wav")) == pytest.approx(0.4 * 16000, abs=2)
    for content, suffix in ((b"", ".wav"), (b"noise" * 99, ".flac"), (recording[:20], ".wav"), (recording, ".exe")):
        with pytest.raises(RequestError, match="the upload") as refused:
            asyncio.run(read(content, suffix))
        assert str(folder) not in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(RequestError, match="the upload"):
        asyncio.run(uploads.read_video(model, io.BytesIO(b"no video")))
    uploads.close()
    assert list(folder.iterdir()) == []
