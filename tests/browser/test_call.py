"""Calls by voice in a real browser: its fake microphone beeps, its loudspeaker plays to nobody."""

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio
from tests.browser.conftest import CHROMIUM, RATE_HZ, beeps, wav_file

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


def begin_call(page: Page, detection: str) -> None:
    page.get_by_label("Talk: a call by voice").click()
    page.locator("#call-detection").select_option(detection)
    page.locator("#call-voice").select_option("coral")
    page.locator("#call-start").click()
    expect(page.locator("#call-state")).to_have_text("Listening")


def test_a_call_by_push_to_talk(page: Page, engine: FakeEngine) -> None:
    begin_call(page, "none")
    page.locator("#call-push").hover()
    page.mouse.down()
    expect(page.locator("#call-state")).to_have_text("You are speaking")
    user, assistant = page.locator("#call-lines .user .text"), page.locator("#call-lines .assistant .text")
    expect(user).to_contain_text("word1 word2")  # while the button is held
    page.mouse.up()
    expect(assistant).to_contain_text("I got a clip of")
    expect(page.locator("#call-latency")).to_contain_text("ms after the turn")
    expect(page.locator("#call-state")).to_have_text("Listening")  # the answer has been played to its end
    heard = engine.requests[-1]
    assert heard.params.voice == "coral"
    clip = heard.messages[-1].parts[0]
    assert isinstance(clip, Audio)
    assert 500 < clip.duration_ms < 2500
    assert np.abs(clip.waveform).max() > 0.05  # the microphone was heard
    page.locator("#call-end").click()
    expect(page.locator("#call-state")).to_have_text("Not in a call")


def test_pressing_the_button_cuts_the_answer_short(page: Page, engine: FakeEngine) -> None:
    begin_call(page, "none")
    page.locator("#call-push").hover()
    page.mouse.down()
    page.wait_for_timeout(500)
    page.mouse.up()
    expect(page.locator("#call-state")).to_have_text("Speaking")
    page.wait_for_timeout(300)
    page.mouse.down()
    expect(page.locator("#call-lines .cut")).to_have_count(1)
    page.wait_for_timeout(400)
    page.mouse.up()
    expect(page.locator("#call-lines .assistant")).to_have_count(2)
    said = engine.requests[-1].messages[1].parts[0]
    assert isinstance(said, Audio)
    assert 80 < said.duration_ms < 900  # of 1.1 s
    page.locator("#call button:has-text('Close')").click()
    expect(page.locator("#call")).not_to_be_visible()


DROPPING = """() => {
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      sockets.push(this);
    }
  };
  // as it is told where the line is dead, which no script can bring about
  window.dropLine = () => {
    const socket = sockets.at(-1), told = socket.onclose;
    socket.onclose = socket.onmessage = null;
    told({ wasClean: false });
  };
}"""


def test_a_call_whose_line_drops_goes_on(page: Page, engine: FakeEngine) -> None:
    """The server is told by the client that its line is dead, and cuts the answer."""
    page.evaluate(DROPPING)
    engine.delay_ms = 400  # a frame: the line drops in mid-answer
    begin_call(page, "none")
    page.locator("#call-push").hover()
    page.mouse.down()
    page.wait_for_timeout(500)
    page.mouse.up()
    expect(page.locator("#call-state")).to_have_text("Speaking")
    told = page.evaluate("() => { dropLine(); return document.getElementById('call-state').textContent; }")
    assert told == "The line dropped: calling again"
    expect(page.locator("#call-lines .cut")).to_contain_text("the line dropped")
    expect(page.locator("#call-state")).to_have_text("Listening")
    assert page.evaluate("sockets.length") == 2
    engine.delay_ms = 0
    page.mouse.down()
    page.wait_for_timeout(400)
    page.mouse.up()
    expect(page.locator("#call-lines .assistant")).to_have_count(2)
    expect(page.locator("#call-notice")).to_be_hidden()
    user, said, more = engine.requests[-1].messages
    assert (user.role, said.role, more.role) == ("user", "assistant", "user")
    assert isinstance(said.parts[0], Audio)
    assert said.parts[0].duration_ms < 900  # of 1.1 s
    page.locator("#call-end").click()


def test_a_call_that_cannot_be_reached_again_is_over(page: Page) -> None:
    page.evaluate(DROPPING)
    begin_call(page, "none")
    failing = "class { constructor() { setTimeout(() => this.onclose({ wasClean: false })); } close() {} }"
    page.evaluate(f"() => {{ WebSocket = {failing}; }}")
    page.evaluate("dropLine()")
    expect(page.locator("#call-notice")).to_contain_text("could not be reached again")
    expect(page.locator("#call-state")).to_have_text("Not in a call")


def test_the_shown_call_runs(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.get_by_label("Talk: a call by voice").click()
    page.locator("#call-detection").select_option("none")
    page.locator("#call-code").click()
    (tmp_path / "question.wav").write_bytes(wav_file(beeps(1.0, RATE_HZ), RATE_HZ))
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "shown.py"
    program.write_text(page.locator("#code-text").inner_text())
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("I got a clip of")
    with wave.open("answer.wav", "rb") as answer:
        assert answer.getnframes() > RATE_HZ // 2
    page.get_by_text("JavaScript", exact=True).click()
    assert "OpenAIRealtimeWS" in page.locator("#code-text").inner_text()
