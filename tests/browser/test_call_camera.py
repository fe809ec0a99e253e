"""A call that sees: the fake camera's moving picture comes with each turn, as a film before it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Message, Video
from tests.browser.conftest import CHROMIUM, FLAGS, wav_file
from tests.browser.test_call import begin_call, dial, hold_to_talk

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


QUESTION = Path("docs/media/question.wav")
MICROPHONE_HZ = 48_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Somebody asks into its microphone, and is silent for a while, over and over."""
    said, rate_hz = soundfile.read(QUESTION)
    microphone = tmp_path_factory.mktemp("microphone") / "question.wav"
    sound = np.concatenate((soxr.resample(said, rate_hz, MICROPHONE_HZ), np.zeros(3 * MICROPHONE_HZ)))
    microphone.write_bytes(wav_file(sound, MICROPHONE_HZ))
    with sync_playwright() as api:
        args = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = api.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


def turn_on_camera(page: Page) -> None:
    page.locator("#call-camera").click()
    expect(page.locator("#call-camera")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#call-view")).to_be_visible()
    expect(page.locator("#call-view")).to_have_js_property("videoWidth", 320)


def answers(page: Page, count: int) -> None:
    expect(page.locator("#call-lines .assistant")).to_have_count(count)
    expect(page.locator("#call-state")).to_have_text("Listening")


def films_of(messages: tuple[Message, ...]) -> list[Video]:
    return [part for message in messages for part in message.parts if isinstance(part, Video)]


def test_what_the_camera_sees_in_a_turn_stands_before_it(page: Page, engine: FakeEngine) -> None:
    begin_call(page, "none")
    page.locator("#call-camera-rate").select_option("2")
    turn_on_camera(page)
    hold_to_talk(page, 1300)
    answers(page, 1)
    film, turn = engine.requests[-1].messages
    assert isinstance(turn.parts[0], Audio)
    (shown,) = film.parts
    assert isinstance(shown, Video)
    assert 2 <= len(shown.frames) <= 12
    assert shown.frames[0].pixels.shape == (192, 256, 3)
    assert (shown.frames[0].pixels != shown.frames[-1].pixels).any()  # something moves
    assert all(before < after for before, after in pairwise(shown.times_ms))
    expect(page.locator("#call-lines .user small")).to_have_text(re.compile(r"^\d+ frames of the camera seen$"))

    page.locator("#call-camera").click()  # off: the next turn is as it was without one
    expect(page.locator("#call-view")).to_be_hidden()
    assert page.evaluate("document.querySelector('#call-view').srcObject") is None  # its light is out
    hold_to_talk(page, 500)
    answers(page, 2)
    assert len(films_of(tuple(engine.requests[-1].messages))) == 1
    page.locator("#call-end").click()


def test_a_turn_that_ends_by_itself_is_answered_with_what_was_seen(page: Page, engine: FakeEngine) -> None:
    """A turn that the server ends is not answered before its frames are there, and one without a camera at once."""
    page.get_by_label("Talk: a call by voice").click()
    turn_on_camera(page)
    page.keyboard.press("Escape")
    expect(page.locator("#call")).not_to_be_visible()
    expect(page.locator("#call-camera")).to_have_attribute("aria-pressed", "false")  # its close event comes later
    assert page.evaluate("document.querySelector('#call-view').srcObject") is None
    asked = len(engine.requests)
    dial(page, "server_vad")
    turn_on_camera(page)
    expect(page.locator("#call-lines .assistant").first).to_be_visible(timeout=30_000)
    first = engine.requests[asked].messages
    assert isinstance(first[0].parts[0], Video)
    assert isinstance(first[1].parts[0], Audio)
    page.locator("#call-end").click()
    expect(page.locator("#call-camera")).to_have_attribute("aria-pressed", "false")  # hung up: it sees no more


def test_a_camera_that_is_refused_is_said_so_and_the_call_goes_on(page: Page) -> None:
    begin_call(page, "none")
    page.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
    }""")
    page.locator("#call-camera").click()
    expect(page.locator("#call-notice")).to_have_text("The browser was not allowed to use the camera.")
    expect(page.locator("#call-camera")).to_have_attribute("aria-pressed", "false")
    hold_to_talk(page, 500)
    answers(page, 1)
    page.locator("#call-end").click()
