"""Spoken calls in a real browser with the shipped network: a person asks, is answered, and cuts in."""

import re

import numpy as np
import pytest
import soxr
from playwright.sync_api import Page, expect

from sensorium.data.generators.speech import PRESETS, Synthesizer
from tests.browser.conftest import CHROMIUM, wav_file

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

RATE_HZ = 48_000
PAUSE_S = 0.3  # shorter than those that end a turn of server_vad
QUIET_S = 3.5  # behind a question: an answer begins within it, and goes on behind it
SPEED = "0.25"  # of the answers: so they are long enough to be cut in on
QUIETEST = 0.05  # of an answer that is heard, its loudest sample
PATIENCE_MS = 90_000  # a busy machine answers late: what it missed comes around again

# what leaves for the loudspeaker is looked at on its way
EARS = """() => {
  window.loudest = 0;
  window.AudioWorkletNode = class extends AudioWorkletNode {
    constructor(context, name, options) {
      super(context, name, options);
      if (name !== "player") return;
      const ear = context.createAnalyser(), samples = new Float32Array(ear.fftSize);
      this.connect(ear);
      setInterval(() => {
        ear.getFloatTimeDomainData(samples);
        loudest = samples.reduce((most, x) => Math.max(most, Math.abs(x)), loudest);
      }, 20);
    }
  };
}"""


@pytest.fixture(scope="module")
def address(released_server: str) -> str:
    return released_server.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def microphone() -> bytes:
    """A question with a pause where nobody would take it for finished, and quiet behind it."""
    audio = Synthesizer().speak("what is two plus three", PRESETS["alloy"]).audio
    said = soxr.resample(audio.waveform, audio.sample_rate_hz, RATE_HZ)
    begin, pause, quiet = (np.zeros(int(length_s * RATE_HZ)) for length_s in (0.5, PAUSE_S, QUIET_S))
    # behind "what is"
    before, behind = np.split(said, [int(audio.words[1].end_ms * RATE_HZ / 1000)])
    return wav_file(np.concatenate((begin, before, pause, behind, quiet)), RATE_HZ)


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
def test_a_spoken_question_is_answered_until_somebody_cuts_in(page: Page, detection: str) -> None:
    page.evaluate(EARS)
    page.get_by_label("Talk: a call by voice").click()
    page.locator("#call-detection").select_option(detection)
    page.locator("#call-speed").fill(SPEED)
    page.locator("#call-start").click()
    asked, answer = (page.locator(f"#call-lines .{side} .text") for side in ("user", "assistant"))
    expect(asked.filter(has_text="two plus three").first).to_be_visible(timeout=PATIENCE_MS)  # one turn
    expect(answer.filter(has_text="two plus three is").first).to_be_visible(timeout=PATIENCE_MS)  # sums: see the card
    expect(page.locator("#call-latency")).to_have_text(re.compile(r"^first sound [1-9]\d* ms after you spoke$"))
    expect(page.locator("#call-lines .assistant.cut").first).to_contain_text("you cut in", timeout=PATIENCE_MS)
    assert page.evaluate("loudest") > QUIETEST
    num_asked = asked.filter(has_text="two plus three").count()
    expect(asked.filter(has_text="two plus three")).not_to_have_count(num_asked, timeout=PATIENCE_MS)
    page.locator("#call-end").click()
    expect(page.locator("#call-state")).to_have_text("Not in a call")
