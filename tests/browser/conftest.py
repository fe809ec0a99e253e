"""A browser and a server for each file of tests; every test gets a page of its own."""

import io
import shutil
import threading
import time
import wave
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import build_app
from sensorium.server.config import ServerConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RATE_HZ = 24_000
TONE_HZ = 440
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
).split()


def wav_file(samples: np.ndarray, rate_hz: int) -> bytes:
    """(N,) float in [-1, 1] as a 16-bit WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate_hz, 0, "NONE", "NONE"))
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def beeps(duration_s: float, rate_hz: int) -> np.ndarray:
    """A tone switched on and off: noise suppression takes a steady one away."""
    times_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * TONE_HZ * times_s) * (np.sin(2 * np.pi * 3 * times_s) > 0)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, FakeEngine]]:
    engine = FakeEngine()
    server = uvicorn.Server(uvicorn.Config(build_app(engine, ServerConfig()), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://localhost:{port}", engine
    server.should_exit = True
    thread.join()


@pytest.fixture
def engine(served: tuple[str, FakeEngine]) -> Iterator[FakeEngine]:
    engine = served[1]
    yield engine
    engine.delay_ms, engine.error, engine.error_after = 0.0, None, 0


@pytest.fixture(scope="module")
def address(served: tuple[str, FakeEngine]) -> str:
    """Of the server that the pages come from."""
    return served[0]


@pytest.fixture(scope="module")
def microphone() -> bytes:
    """The WAV file that the browser's microphone hears, again and again from when it is opened."""
    return wav_file(beeps(4.0, 48_000), 48_000)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, microphone: bytes) -> Iterator[Browser]:
    heard = tmp_path_factory.mktemp("microphone") / "heard.wav"
    heard.write_bytes(microphone)
    with sync_playwright() as api:
        args = [*FLAGS, f"--use-file-for-fake-audio-capture={heard}"]
        browser = api.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, address: str) -> Page:
    permissions = ["camera", "microphone", "clipboard-read", "clipboard-write"]
    tab = browser.new_context(base_url=address, permissions=permissions).new_page()
    tab.set_default_timeout(10_000)
    return tab


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A fresh playground. Whatever the test does, no script may fail and nothing may offend the page's policy."""
    page = tab
    faults: list[str] = []

    def hear_error(error: Exception) -> None:
        faults.append(str(error))

    def hear_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            faults.append(message.text)

    page.on("pageerror", hear_error)
    page.on("console", hear_message)
    page.goto("/")
    expect(page.locator("#model option").first).to_be_attached()
    yield page
    page.remove_listener("pageerror", hear_error)
    page.remove_listener("console", hear_message)
    refused = "Failed to load resource: the server responded with a status of 4"  # Chromium says so of every 4xx
    assert [fault for fault in faults if not fault.startswith(refused)] == []
