"""The page in a real browser: text input, the library's audio, the expert map; keyboard, narrow screen, dark mode."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.running import LONG, RunningServer, running_server
from tests.videos import numbered, write_video
from unimoe_runtime import SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16
from unimoe_serving.page import render_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Only loopback is reachable; audio goes to no device.
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a server's page; at the end it checks that no other host was contacted and no script failed."""
    pages: list[Any] = []
    asked: list[str] = []
    failed: list[str] = []
    servers: list[str] = []

    def opened(server: RunningServer, *, width: int = 1280, scheme: str = "light", key: str = "") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(30_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda message: failed.append(message.text) if is_fault(message) else None)
        pages.append(page)
        servers.append(server.url)
        page.goto(server.url)
        if key:
            page.fill("#key", key)
        page.wait_for_selector("#go:enabled")
        return page

    yield opened
    for page in pages:
        page.close()
    assert all(url.startswith((*servers, "blob:", "data:")) for url in asked), asked
    assert not failed, failed


def is_fault(message: Any) -> bool:
    """Whether a message is a script's error; the browser also reports each unsuccessful answer."""
    return message.type == "error" and "Failed to load resource" not in message.text


def until(page: Any, expression: str) -> None:
    """Wait for a condition in the page; the page's policy lets only the debugger evaluate text."""
    end = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < end, (expression, page.inner_text("#error"))
        time.sleep(0.02)


def heard(page: Any) -> np.ndarray:
    """The samples that the page gave to Web Audio."""
    encoded = page.evaluate(
        "(() => { const bytes = new Uint8Array(unimoe.player.samples().buffer); let text = '';"
        "for (const byte of bytes) text += String.fromCharCode(byte); return btoa(text); })()"
    )
    return np.frombuffer(base64.b64decode(encoded), "<i2")


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_speaks(
    open_page: Any, server: RunningServer, library: Synthesizer, tmp_path: Path, width: int, scheme: str
) -> None:
    page = open_page(server, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.fill("#text", "Hello.")
    page.fill("#seed", "7")
    page.select_option("#voice", "bob")
    page.click("#go")
    page.wait_for_selector("#download:not([hidden])")
    until(page, "document.getElementById('state').textContent.startsWith('ready; ')")
    expected = library.synthesize(SynthesisRequest(text="Hello.", voice="bob", seed=7))
    np.testing.assert_array_equal(heard(page), to_int16(expected.pcm_L))

    steps = page.evaluate("unimoe.map.numSteps")
    assert steps == expected.routing.steps
    assert f"{steps} steps" in page.get_attribute("#map", "aria-label")
    config = library.bundle.model
    assert page.locator("#map i").count() == config.num_layers * (config.num_routed_experts + config.num_null_experts)
    launched = page.evaluate("unimoe.map.launched")
    assert launched == expected.routing.launched
    assert page.inner_text("#first").endswith(" ms")
    assert float(page.inner_text("#rtf")) > 0
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "spoken.wav")
    assert (tmp_path / "spoken.wav").stat().st_size == 44 + 2 * len(expected.pcm_L)
    # No element is wider than the screen, and none overlap.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('button:not([hidden])')].every(b => b.clientHeight >= 32)")


@needs_chromium
def test_by_keyboard_alone(open_page: Any, server: RunningServer) -> None:
    """Tab reaches every control in order, Ctrl + Enter plays, and an error is an alert."""
    page = open_page(server)
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = ["text", "voice", "sample", "speed", "seed", "go"]
    assert [name for name in order if name in wanted][: len(wanted)] == wanted
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input,select,textarea')].filter(e => !e.labels.length).map(e => e.id)"
    )
    assert unnamed == []
    page.check("input[value=music]")
    page.fill("#text", "flute, 120 bpm: C4 E4")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#download:not([hidden])")
    page.fill("#text", "no notes at all")
    page.keyboard.press("Control+Enter")
    until(page, "document.querySelector('[role=alert]').textContent.length > 0")
    assert [page.inner_text(f"#{name}") for name in ("first", "rtf", "length", "launched")] == ["–"] * 4


STOP_AT_THE_FIRST_SAMPLE = """() => {
    const timer = setInterval(() => {
        if (unimoe.player === null || unimoe.player.numSamples === 0) return;
        clearInterval(timer);
        document.querySelector("#stop").click();
        window.stopped = true;
    }, 2);
}"""


@needs_chromium
def test_stop_frees_the_rows(open_page: Any, server: RunningServer) -> None:
    page = open_page(server)
    cancelled = server.metric("streams_ended_total", outcome="cancelled")
    page.fill("#text", LONG)
    # In the page itself: on a loaded machine the server has made everything before the debugger's click arrives.
    page.evaluate(STOP_AT_THE_FIRST_SAMPLE)
    page.click("#go")
    until(page, "window.stopped === true")
    server.wait_idle()
    assert server.metric("streams_ended_total", outcome="cancelled") == cancelled + 1
    assert page.inner_text("#error") == ""


@needs_chromium
def test_another_model_amid_the_audio(open_page: Any, tiny_bundle: Path, public_bundle: Path) -> None:
    """The stream of the first model ends, the map has the second's shape, and what was typed stays."""
    with running_server({"public": public_bundle, "tiny": tiny_bundle}) as server:
        page = open_page(server)
        page.select_option("#model", "tiny")
        page.fill("#text", LONG)
        page.click("#go")
        until(page, "unimoe.player !== null && unimoe.player.numSamples > 0")
        page.select_option("#model", "public")
        server.wait_idle()
        assert page.input_value("#text") == LONG
        assert page.evaluate("unimoe.map.numSteps") == 0 and page.inner_text("#error") == ""
        page.check("input[value=music]")
        assert page.input_value("#text") != LONG
        page.check("input[value=speech]")
        page.select_option("#model", "tiny")
        page.fill("#text", "Hello.")
        page.click("#go")
        until(page, "document.getElementById('state').textContent.startsWith('ready; ')")
        assert page.evaluate("unimoe.map.numSteps") > 0


@pytest.mark.slow
@needs_chromium
def test_a_video_and_a_key(open_page: Any, public_bundle: Path, tmp_path: Path) -> None:
    """The page asks for the server's key, and takes a clip if the bundle takes videos."""
    clip = write_video(tmp_path / "clip.mp4", numbered(6), 3, codec="mpeg4")
    with running_server({"public": public_bundle}, api_key="s3cret") as server:
        keyed = open_page(server, key="s3cret")
        keyed.check("input[value=music]")
        keyed.fill("#text", "calm")
        keyed.fill("#seconds", "0.3")
        keyed.set_input_files("#video", clip)
        with keyed.expect_request("**/v1/audio/music") as sent:
            keyed.click("#go")
        assert sent.value.headers["content-type"].startswith("multipart/form-data")
        keyed.wait_for_selector("#download:not([hidden])")
        assert keyed.evaluate("unimoe.player.numSamples") > 0


@pytest.mark.slow
def test_asks_nothing_of_others() -> None:
    html, policy = render_page()
    assert "http://" not in html and "https://" not in html and "/* page" not in html
    assert "default-src 'none'" in policy and "unsafe" not in policy
