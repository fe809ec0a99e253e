"""Calls by voice in a real browser: its fake microphone beeps, its loudspeaker plays to nobody."""

import base64
import json
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


def dial(page: Page, detection: str) -> None:
    page.get_by_label("Talk: a call by voice").click()
    page.locator("#call-detection").select_option(detection)
    page.locator("#call-voice").select_option("coral")
    page.locator("#call-start").click()


def begin_call(page: Page, detection: str) -> None:
    dial(page, detection)
    expect(page.locator("#call-state")).to_have_text("Listening")


def hold_to_talk(page: Page, ms: int) -> None:
    page.locator("#call-push").hover()
    page.mouse.down()
    page.wait_for_timeout(ms)
    page.mouse.up()


def test_a_call_by_push_to_talk(page: Page, engine: FakeEngine) -> None:
    begin_call(page, "none")
    page.locator("#call-push").hover()
    page.mouse.down()
    expect(page.locator("#call-state")).to_have_text("You are speaking")
    user, assistant = page.locator("#call-lines .user .text"), page.locator("#call-lines .assistant .text")
    expect(user).to_contain_text("word1 word2")  # while the button is held
    page.mouse.up()
    expect(assistant).to_contain_text("I got a clip of")
    expect(page.locator("#call-latency")).to_contain_text("ms after you spoke")
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
    hold_to_talk(page, 500)
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
    hold_to_talk(page, 500)
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


HEARING = """() => {
  window.sent = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    window.newest = JSON.parse(data);
    sent.push(newest.type);
    send.call(this, data);
  };
}"""
SENT_UPDATE = "sent.includes('session.update')"
SENDS_SOUND = "sent.includes('input_audio_buffer.append')"


def wait_until(page: Page, condition: str) -> None:
    """The page's policy forbids Playwright's own waiting, which evaluates in it."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never: {condition}")


def test_a_muted_microphone_sends_nothing_also_after_the_line_dropped(page: Page) -> None:
    page.evaluate(DROPPING)
    page.evaluate(HEARING)
    dial(page, "server_vad")
    wait_until(page, SENDS_SOUND)
    page.locator("#call-mute").click()
    silence = base64.b64decode(page.evaluate("newest.audio"))  # so that a turn that had begun ends
    assert len(silence) == 2 * 2 * RATE_HZ
    assert not any(silence)
    page.evaluate("() => { sent.length = 0; dropLine(); }")
    wait_until(page, SENT_UPDATE)
    expect(page.locator("#call-state")).not_to_have_text("The line dropped: calling again")
    page.wait_for_timeout(400)  # in which four blocks or more would be sent
    assert not page.evaluate(SENDS_SOUND)
    page.locator("#call-mute").click()
    wait_until(page, SENDS_SOUND)
    page.locator("#call-end").click()


def test_the_track_of_a_muted_microphone_is_off(page: Page) -> None:
    page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
          devices.getUserMedia = async (wanted) => {
            await new Promise((resolve) => (window.allow = resolve));
            return (window.stream = await open(wanted));
          };
        }"""
    )
    records = "stream.getAudioTracks().every(({ enabled }) => enabled)"
    dial(page, "server_vad")
    page.locator("#call-mute").click()  # while the browser asks
    wait_until(page, "window.allow !== undefined")
    page.evaluate("allow()")
    expect(page.locator("#call-state")).to_have_text("Listening")
    for is_recorded in (True, False, True):
        assert page.evaluate(records) is not is_recorded
        page.locator("#call-mute").click()
        assert page.evaluate(records) is is_recorded
    page.locator("#call-end").click()


def test_a_muted_microphone_is_not_opened_by_the_button_to_talk(page: Page) -> None:
    page.evaluate(HEARING)
    begin_call(page, "none")
    page.locator("#call-mute").click()
    hold_to_talk(page, 400)
    assert page.evaluate("sent.join()") == "session.update"
    page.locator("#call-mute").click()
    page.wait_for_timeout(400)
    assert page.evaluate("sent.join()") == "session.update"  # the button is up
    page.locator("#call-end").click()


def test_an_answer_that_fails_is_told(page: Page, engine: FakeEngine) -> None:
    engine.error = RuntimeError("the network is gone")
    begin_call(page, "none")
    hold_to_talk(page, 400)
    expect(page.locator("#call-notice")).to_have_text("The answer failed: say it again, or start a new call.")
    expect(page.locator("#call-state")).to_have_text("Listening")
    page.locator("#call-end").click()


def test_a_call_begins_with_what_is_chosen(page: Page) -> None:
    """Only what the kind of turn detection has is shown, and nothing is begun with a speed that there isn't."""
    page.get_by_label("Talk: a call by voice").click()
    shown = {
        "semantic_vad": ("#call-eagerness",),
        "server_vad": ("#call-silence", "#call-threshold"),
        "none": (),
    }
    for detection, own in shown.items():
        page.locator("#call-detection").select_option(detection)
        for choice in ("#call-eagerness", "#call-silence", "#call-threshold"):
            expect(page.locator(choice)).to_be_visible(visible=choice in own)
    page.locator("#call-detection").select_option("server_vad")
    page.locator("#call-silence").fill("700")
    page.locator("#call-threshold").fill("0.3")
    page.locator("#call-speed").fill("9")
    page.locator("#call-start").click()
    expect(page.locator("#call-state")).to_have_text("Not in a call")
    page.locator("#call-speed").fill("1.25")
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame))))
    page.locator("#call-start").click()
    expect(page.locator("#call-state")).to_have_text("Listening")
    audio = next(json.loads(frame) for frame in sent if "session.update" in frame)["session"]["audio"]
    assert audio["input"]["turn_detection"] == {"type": "server_vad", "silence_duration_ms": 700, "threshold": 0.3}
    assert audio["output"] == {"voice": "alloy", "speed": 1.25}
    expect(page.locator("#call-speed")).to_be_disabled()
    page.locator("#call-end").click()


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
