"""Pictures and films from the camera and from files in a real browser, whose fake camera shows a moving clock."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image, Video
from tests.browser.conftest import CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

FILM = Path("docs/media/film.mp4").absolute()


def ask(page: Page, text: str) -> str:
    page.locator("#prompt").fill(text)
    page.locator("#prompt").press("Enter")
    reply = page.locator(".reply").last
    expect(reply).to_have_attribute("aria-busy", "false", timeout=10_000)
    return reply.inner_text()


def open_camera(page: Page) -> None:
    page.get_by_label("Show something to the camera").click()
    expect(page.locator("#camera-shoot")).to_be_enabled()


def test_a_still_picture(page: Page, engine: FakeEngine) -> None:
    open_camera(page)
    page.locator("#camera-shoot").click()
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.locator("#attachments img")).to_have_count(1)
    expect(page.locator("#prompt")).to_be_focused()
    assert page.evaluate("document.querySelector('#camera-view').srcObject") is None  # the camera's light is out
    assert "I got a picture of" in ask(page, "what is this")
    (shown,) = [part for part in engine.requests[-1].messages[-1].parts if isinstance(part, Image)]
    assert shown.pixels.std() > 10  # the fake camera's picture is not of one colour


@pytest.mark.parametrize("sound", [False, True])
def test_a_film(page: Page, engine: FakeEngine, sound: bool) -> None:
    open_camera(page)
    page.locator("#camera-sound").set_checked(sound)
    page.locator("#camera-film").click()
    if not sound:  # the other one ends by itself
        expect(page.locator("#camera-time")).to_contain_text(re.compile(r"0:0[2-7] of 0:08"))
        page.get_by_text("Stop filming").click()
    expect(page.locator("#attachments video")).to_have_count(1, timeout=30_000)
    with page.expect_request("**/v1/chat/completions") as sent:
        assert "I got a film of" in ask(page, "what happens")
    content = json.loads(sent.value.post_data or "")["messages"][-1]["content"]
    assert content[0]["video_url"]["url"].startswith("data:video/webm;base64,")
    (film,) = [part for part in engine.requests[-1].messages[-1].parts if isinstance(part, Video)]
    assert (film.sound is not None) == sound
    if sound:  # of a short film a busy machine may record the first second only
        assert len(film.frames) >= 2
        assert (film.frames[0].pixels != film.frames[-1].pixels).any()  # something moves
    expect(page.locator(".user video")).to_have_js_property("controls", True)


def test_a_film_that_is_not_wanted_is_thrown_away(page: Page) -> None:
    open_camera(page)
    page.locator("#camera-film").click()
    expect(page.locator("#camera-dot")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()
    open_camera(page)  # and the next one begins afresh
    expect(page.locator("#camera-dot")).to_be_hidden()
    page.locator("#camera").get_by_text("Close").click()
    expect(page.locator("#attachments li")).to_have_count(0)


def test_a_camera_that_is_refused_is_said_so(page: Page) -> None:
    page.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
    }""")
    page.get_by_label("Show something to the camera").click()
    expect(page.locator("#camera-notice")).to_contain_text("not allowed to use the camera")
    expect(page.locator("#camera-shoot")).to_be_disabled()
    page.keyboard.press("Escape")


def test_a_film_file_is_attached_and_the_shown_python_runs(page: Page, tmp_path: Path, engine: FakeEngine) -> None:
    page.set_input_files("#file", FILM)
    expect(page.locator("#attachments video")).to_have_count(1)
    page.locator("#prompt").fill("what was said")
    page.locator("#show-code").click()
    (tmp_path / "film.mp4").write_bytes(FILM.read_bytes())
    shown = page.locator("#code-text").inner_text()
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "I got a film of" in done.stdout
    page.keyboard.press("Escape")
    with page.expect_request("**/v1/chat/completions") as sent:
        assert "with sound" in ask(page, "what was said")
    url = json.loads(sent.value.post_data or "")["messages"][-1]["content"][0]["video_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]) == FILM.read_bytes()
