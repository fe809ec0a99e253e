"""The playground in a real browser, in front of the real server and an engine without a network.

One Chromium and one server for the whole file; every test gets a page of its own.
"""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from playwright.sync_api import Locator, Page, Request, expect

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Image
from sensorium.server.comfort_noise import QUIET_BEFORE_MS, QUIET_BEHIND_MS
from sensorium.tokenizers.vocab import VOICES
from tests.browser.conftest import CHROMIUM, RATE_HZ, TONE_HZ, beeps, wav_file

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


def png_file(width: int, height: int) -> bytes:
    file = io.BytesIO()
    PILImage.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def ask(page: Page, text: str) -> Locator:
    """Types a message and sends it. Returns the answer, which may still be growing."""
    page.locator("#prompt").fill(text)
    page.locator("#prompt").press("Enter")
    return page.locator(".reply").last


def wait_until_done(reply: Locator) -> None:
    expect(reply).to_have_attribute("aria-busy", "false", timeout=10_000)


def ask_for_voice(page: Page, voice: str = "alloy") -> None:
    page.get_by_text("Voice", exact=True).and_(page.locator("label:visible")).first.click()
    page.locator("#voice").select_option(voice)


def sent_clip(request: Request) -> bytes:
    body = json.loads(request.post_data or "")
    return base64.b64decode(body["messages"][-1]["content"][0]["input_audio"]["data"])


def wait_for(condition: Callable[[], bool]) -> None:
    """Polls from here: the page's policy forbids the strings of code that `page.wait_for_function` evaluates."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def played_samples(reply: Locator) -> int:
    return int(reply.evaluate("reply => reply.querySelector('.sound')?.dataset.playedSamples ?? 0"))


def test_loads_under_its_policy_and_from_here_only(page: Page, served: tuple[str, FakeEngine]) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    response = page.reload()
    expect(page.locator("#model option").first).to_be_attached()
    assert response is not None
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert requested
    assert all(url.startswith(served[0]) for url in requested)
    assert page.locator("#model").input_value().startswith("sensorium")
    assert page.locator("#voice option").all_text_contents() == list(VOICES)


def test_every_control_has_a_name_and_a_key(page: Page) -> None:
    nameless = page.evaluate("""[...document.querySelectorAll("button, input, select, textarea")].filter((control) =>
        !control.hidden && !control.ariaLabel && !control.labels?.length && !control.textContent.trim()
    ).map((control) => control.outerHTML)""")
    assert nameless == []
    expect(page.locator("#prompt")).to_be_focused()
    page.locator("#show-settings").press("Enter")
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.locator("#show-settings")).to_be_focused()


def test_the_keyboard_is_never_left_nowhere(page: Page, engine: FakeEngine) -> None:
    """A control that goes away with its own use hands the focus on: to Stop while there is an answer to stop."""
    stop, prompt = page.locator("#stop"), page.locator("#prompt")
    engine.delay_ms = 150.0
    prompt.fill("three short words")
    page.locator("#send").focus()
    page.keyboard.down("Enter")
    expect(stop).to_be_focused()
    page.keyboard.down("Enter")  # held down, it repeats, and must not stop what it began
    page.keyboard.up("Enter")
    wait_until_done(page.locator(".reply").last)
    expect(page.locator(".reply .text")).to_have_text('You said "three short words".')
    expect(prompt).to_be_focused()

    page.locator("#clear").click()
    page.get_by_role("button", name="Draw a red circle").press("Enter")
    expect(stop).to_be_focused()
    page.keyboard.press("Enter")
    wait_until_done(page.locator(".reply").last)
    expect(prompt).to_be_focused()

    page.locator("#show-settings").press("Enter")
    page.locator("#offer-tools").check()
    page.keyboard.press("Escape")
    reply = ask(page, 'call set_device {"room": "kitchen"}')
    expect(prompt).to_be_focused()  # where it was: nothing took it away
    wait_until_done(reply)
    reply.get_by_role("button", name="Send the result").press("Enter")
    expect(stop).to_be_focused()
    wait_until_done(page.locator(".reply").last)
    expect(prompt).to_be_focused()

    page.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = () => new Promise((_, refuse) =>
            setTimeout(() => refuse(new DOMException("", "NotAllowedError")), 200));
    }""")
    page.locator("#record").press("Enter")
    expect(page.locator("#notice")).to_contain_text("not allowed to use the microphone")
    expect(page.locator("#record")).to_be_focused()


def test_text_round_trip_and_the_next_turn_remembers(page: Page, engine: FakeEngine) -> None:
    reply = ask(page, "good morning")
    wait_until_done(reply)
    expect(reply.locator(".text")).to_have_text('You said "good morning".')
    expect(reply.locator("footer")).to_contain_text(re.compile(r"first text \d+ ms.*total.*2 tokens in, 4 out"))
    expect(page.locator("#status")).to_have_text('You said "good morning".')
    page.locator("#show-settings").click()
    page.locator("#system").fill("be brief")
    page.keyboard.press("Escape")
    wait_until_done(ask(page, "and again"))
    roles = [(message.role, message.text) for message in engine.requests[-1].messages]
    assert roles == [
        ("system", "be brief"),
        ("user", "good morning"),
        ("assistant", 'You said "good morning".'),
        ("user", "and again"),
    ]
    page.locator("#clear").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    wait_until_done(ask(page, "hello"))
    assert [message.role for message in engine.requests[-1].messages] == ["system", "user"]


def test_the_key_is_sent_and_stays_in_the_tab(page: Page) -> None:
    page.locator("#show-settings").click()
    page.locator("#key").fill("a-secret")
    page.keyboard.press("Escape")
    page.reload()
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, "hello")
    assert sent.value.headers["authorization"] == "Bearer a-secret"
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.locator("#show-code").click()
    expect(page.locator("#code-text")).not_to_contain_text("a-secret")
    expect(page.locator("#code-text")).not_to_contain_text("api_key")  # the client reads OPENAI_API_KEY
    page.evaluate("sessionStorage.clear()")


@pytest.mark.parametrize("way", ["file", "paste", "drop"])
def test_a_picture_is_shown_shrunk_and_sent(page: Page, engine: FakeEngine, way: str) -> None:
    png = png_file(2048, 512)
    if way == "file":
        page.set_input_files("#file", {"name": "red.png", "mimeType": "image/png", "buffer": png})
    else:
        page.evaluate(
            """([way, base64]) => {
                const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], "red.png", { type: "image/png" }));
                const event = way === "paste"
                    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                    : new DragEvent("drop", { dataTransfer: data, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [way, base64.b64encode(png).decode()],
        )
    expect(page.locator("#attachments img")).to_have_attribute("alt", "red.png")
    wait_until_done(ask(page, "what is it"))
    image, _ = engine.requests[-1].messages[-1].parts
    assert isinstance(image, Image)
    assert image.pixels.shape == (256, 1024, 3)
    assert image.pixels[100, 500].tolist() == [200, 30, 30]
    expect(page.locator(".user img")).to_be_visible()
    expect(page.locator("#attachments li")).to_have_count(0)


def test_a_clip_is_sent_as_it_is(page: Page, engine: FakeEngine) -> None:
    clip = beeps(0.7, 16_000)
    page.set_input_files("#file", {"name": "beeps.wav", "mimeType": "audio/wav", "buffer": wav_file(clip, 16_000)})
    expect(page.locator("#attachments .time")).to_have_text("0:01")
    page.locator("#send").click()
    wait_until_done(page.locator(".reply"))
    (audio,) = engine.requests[-1].messages[-1].parts
    assert isinstance(audio, Audio)
    assert audio.sample_rate_hz == 16_000  # the engine's own rate: nobody resampled it
    before = 16 * QUIET_BEFORE_MS  # the server lays quiet around it
    assert len(audio.waveform) == before + len(clip) + 16 * QUIET_BEHIND_MS
    assert np.abs(audio.waveform[before : before + len(clip)] - clip).max() < 1e-3


def test_a_broken_file_is_refused_by_name(page: Page) -> None:
    for kind in ("image/png", "audio/wav"):
        page.set_input_files("#file", {"name": "broken", "mimeType": kind, "buffer": b"RIFF, or not"})
        expect(page.locator("#notice")).to_contain_text("broken was not attached")
    expect(page.locator("#attachments li")).to_have_count(0)


def test_the_microphone_is_heard(page: Page, engine: FakeEngine) -> None:
    page.locator("#record").click()
    expect(page.locator("#recording-time")).to_have_text(re.compile("0:0[1-9]"))
    page.locator("#recording-cancel").click()
    expect(page.locator("#attachments li")).to_have_count(0)
    page.locator("#record").click()
    expect(page.locator("#recording-time")).to_have_text(re.compile("0:0[2-9]"))  # a busy machine looks late
    page.locator("#recording-keep").click()
    expect(page.locator("#attachments .sound")).to_be_visible()
    with page.expect_request("**/v1/chat/completions") as sent:
        page.locator("#send").click()
    wait_until_done(page.locator(".reply"))
    with wave.open(io.BytesIO(sent_clip(sent.value)), "rb") as file:
        assert file.getparams()[:3] == (1, 2, RATE_HZ)
    (audio,) = engine.requests[-1].messages[-1].parts
    assert isinstance(audio, Audio)
    assert 1_000 < audio.duration_ms < 11_000
    spectrum = np.abs(np.fft.rfft(audio.waveform))
    loudest_hz = spectrum.argmax() * audio.sample_rate_hz / len(audio.waveform)
    assert abs(loudest_hz - TONE_HZ) < 10
    assert np.abs(audio.waveform).max() > 0.05


def test_an_answer_sounds_while_it_streams(page: Page, engine: FakeEngine) -> None:
    engine.delay_ms = 70.0  # two events for each word of 160 ms: a little faster than it sounds
    ask_for_voice(page, "sage")
    reply = ask(page, "say this sentence of quite a few words so that there is time to listen")
    wait_for(lambda: played_samples(reply) > 0)
    early = played_samples(reply)
    wait_for(lambda: played_samples(reply) > early + RATE_HZ // 4)
    assert reply.get_attribute("aria-busy") == "true"
    assert engine.requests[-1].params.voice == "sage"
    wait_until_done(reply)
    expect(reply.locator("footer")).to_contain_text("first sound")
    expect(reply.locator(".text")).to_contain_text("time to listen")
    expect(reply.get_by_role("button", name="Play the answer")).to_be_visible(timeout=10_000)
    num_samples = 17 * 160 * RATE_HZ // 1000  # "You said" and fifteen words
    assert abs(played_samples(reply) - num_samples) < 0.02 * RATE_HZ

    with page.expect_download() as download:
        reply.get_by_role("button", name="Save the answer").click()
    with wave.open(str(download.value.path()), "rb") as saved:
        assert saved.getparams()[:3] == (1, 2, RATE_HZ)
        assert saved.getnframes() == played_samples(reply)

    reply.get_by_role("button", name="Play the answer").click()
    wait_for(lambda: 0 < played_samples(reply) < num_samples // 2)
    reply.get_by_role("button", name="Stop the answer").click()
    expect(reply.get_by_role("button", name="Play the answer")).to_be_visible()


def test_stop_ends_the_answer_at_the_engine(page: Page, engine: FakeEngine) -> None:
    engine.delay_ms = 40.0
    cancelled = engine.num_cancelled
    reply = ask(page, "long " * 300)
    expect(reply.locator(".text")).to_contain_text("long")
    page.get_by_role("button", name="Stop the answer").click()
    wait_until_done(reply)
    expect(reply.locator("footer")).to_contain_text("stopped")
    wait_for(lambda: engine.num_cancelled > cancelled)
    assert engine.num_cancelled == cancelled + 1
    engine.delay_ms = 0.0
    wait_until_done(ask(page, "still there?"))
    expect(page.locator(".reply .text").last).to_have_text('You said "still there?".')


def test_a_refusal_names_its_field_and_gives_the_text_back(page: Page, engine: FakeEngine) -> None:
    text = "word " * (engine.info.max_tokens + 1)
    reply = ask(page, text)
    expect(reply.locator(".error")).to_contain_text("context")
    expect(reply.locator(".error code")).to_have_text("messages")
    reply.get_by_role("button", name="Edit and send again").click()
    expect(page.locator("#prompt")).to_have_value(text.strip())
    expect(page.locator(".turn")).to_have_count(0)
    wait_until_done(ask(page, "shorter"))
    assert len(engine.requests[-1].messages) == 1


def test_an_answer_that_breaks_off_says_so(page: Page, engine: FakeEngine) -> None:
    engine.error, engine.error_after = RuntimeError("a secret of the engine"), 2
    reply = ask(page, "one two three")
    expect(reply.locator(".error")).to_be_visible()
    expect(reply.locator(".text")).to_have_text("You said")
    expect(reply).not_to_contain_text("secret")


def test_a_drawn_picture_is_shown_and_remembered(page: Page, engine: FakeEngine) -> None:
    page.get_by_role("button", name="Draw a red circle").click()
    reply = page.locator(".reply")
    wait_until_done(reply)
    expect(reply.locator("img")).to_have_count(1)
    expect(reply.locator("figure")).to_have_attribute("aria-busy", "false")
    assert reply.locator("img").evaluate("async (img) => (await img.decode(), img.naturalWidth)") == 64
    expect(reply.locator("footer")).to_contain_text("first picture")
    wait_until_done(ask(page, "and now?"))
    _, drawn, _ = engine.requests[-1].messages
    assert any(isinstance(part, Image) for part in drawn.parts)


def test_a_tool_is_called_and_answered(page: Page, engine: FakeEngine) -> None:
    page.get_by_role("button", name="Turn on the kitchen lights").click()
    wait_until_done(page.locator(".reply"))
    system, asked = engine.requests[-1].messages
    assert (system.role, asked.text) == ("system", "turn on the kitchen lights")
    assert "set_device" in system.text
    page.locator("#clear").click()
    page.locator("#show-settings").click()
    page.locator("#offer-tools").check()
    page.keyboard.press("Escape")
    reply = ask(page, 'call set_device {"room": "kitchen", "state": "on"}')
    expect(reply.locator(".tool h4")).to_have_text("set_device")
    expect(reply.locator(".tool pre")).to_contain_text('"room": "kitchen"')
    reply.locator(".tool input").fill('{"on": true}')
    reply.get_by_role("button", name="Send the result").click()
    expect(page.locator(".reply")).to_have_count(2)
    wait_until_done(page.locator(".reply").last)
    _, _, call, result = engine.requests[-1].messages
    assert call.role == "assistant"
    assert (result.role, result.text) == ("tool", '{"on": true}')


def test_the_shown_python_runs_and_says_the_same(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.set_input_files("#file", {"name": "red.png", "mimeType": "image/png", "buffer": png_file(32, 32)})
    ask_for_voice(page)
    page.locator("#prompt").fill('a "quoted" $HOME `tick` \\ word')
    page.locator("#show-code").click()
    (tmp_path / "picture.png").write_bytes(png_file(32, 32))
    monkeypatch.chdir(tmp_path)
    said = 'You said "a "quoted" $HOME `tick` \\ word". I got a picture of 32 x 32.'
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(page.locator("#code-text").inner_text(), "shown.py", "exec"), {"__name__": "shown"})
    assert printed.getvalue() == said
    with wave.open("answer.wav", "rb") as answer:
        assert answer.getnframes() > RATE_HZ
    page.get_by_text("curl", exact=True).click()
    shown = page.locator("#code-text").inner_text()
    page.locator("#copy-code").click()
    assert page.evaluate("navigator.clipboard.readText()") == shown
    if shutil.which("curl"):
        answer = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True).stdout
        *chunks, done = [line.removeprefix("data: ") for line in answer.split("\n\n") if line]
        assert done == "[DONE]"
        deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
        assert "".join(delta.get("audio", {}).get("transcript", "") for delta in deltas) == said


def test_events_and_samples_survive_any_cut(page: Page) -> None:
    stream = "\n".join(
        [": note", 'data: {"text": "é 日"}', "", "data: two\r", "data:lines\r", "\r", "data: [DONE]", "", ""]
    )
    events = page.evaluate(
        """async (stream) => {
            const { SseParser } = await import("./api.js");
            const bytes = new TextEncoder().encode(stream);
            const parsed = [];
            for (let size = 1; size <= bytes.length; size++) {
                const parser = new SseParser();
                const cuts = [...Array(Math.ceil(bytes.length / size)).keys()].map((i) => i * size);
                parsed.push(cuts.flatMap((cut) => parser.push(bytes.subarray(cut, cut + size))));
            }
            return parsed;
        }""",
        stream,
    )
    assert all(parsed == ['{"text": "é 日"}', "two\nlines", "[DONE]"] for parsed in events)

    pcm = np.array([0, 1, -1, 32767, -32768, 1234, -4321], "<i2")
    pieces = [base64.b64encode(pcm.tobytes()[cut : cut + 3]).decode() for cut in range(0, 14, 3)]
    samples = page.evaluate(
        """async (pieces) => {
            const { PcmDecoder } = await import("./wav.js");
            const decoder = new PcmDecoder();
            return pieces.flatMap((piece) => [...decoder.decode(piece)]);
        }""",
        pieces,
    )
    assert samples == (pcm / 32768).tolist()
