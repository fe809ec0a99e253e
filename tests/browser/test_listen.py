"""The page that listens and reads aloud, in a real browser. The engine hears a word in every third of a second."""

import io
import json
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from playwright.sync_api import Locator, Page, expect

from sensorium.engine.fake import FakeEngine
from tests.browser.conftest import CHROMIUM, RATE_HZ

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

QUESTION = Path("docs/media/question.wav").absolute()


@pytest.fixture
def listen(page: Page) -> Iterator[Page]:
    page.goto("/listen.html")
    expect(page.locator("#voice option").first).to_be_attached()
    yield page
    page.keyboard.press("Escape")


def said_twice() -> bytes:
    """A sentence, a second of silence, and the sentence again: two stretches of speech."""
    sound, rate_hz = soundfile.read(QUESTION, dtype="float32")
    pause = np.zeros(rate_hz, np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.concatenate((pause, sound, pause, sound, pause)), rate_hz, format="WAV")
    return file.getvalue()


def choose(page: Page, data: bytes, name: str = "Said twice.wav") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": data})


def saved(page: Page, button: Locator) -> tuple[str, bytes]:
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def watch_marks(page: Page) -> None:
    """Keeps in `data-marked` which words were marked, one after the other: each is for a third of a second only."""
    page.locator("#transcript").evaluate("""transcript => {
        transcript.dataset.marked = "";
        new MutationObserver((changes) => {
            for (const { target } of changes) {
                if (target.ariaCurrent) transcript.dataset.marked += `${target.textContent} `;
            }
        }).observe(transcript, { subtree: true, attributeFilter: ["aria-current"] });
    }""")


def seconds(timecode: str) -> float:
    hours, minutes, rest = timecode.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_a_file_is_written_down_while_it_is_heard_and_its_words_play(listen: Page, engine: FakeEngine) -> None:
    engine.delay_ms = 100.0
    asked: list[str] = []
    listen.on("request", lambda request: asked.append(request.method) if "transcriptions" in request.url else None)
    choose(listen, said_twice())
    transcript = listen.locator("#transcript")
    expect(transcript).to_contain_text("word2")
    expect(listen.locator(".word").first).to_have_text("word1")  # the first stretch is complete
    assert listen.locator("#hearing").is_visible()  # and the second one is still being heard
    expect(listen.locator("#so-far")).to_contain_text(re.compile(r"heard 0:\d\d of 0:\d\d"))
    expect(listen.locator("#keep")).to_be_visible(timeout=20_000)
    assert asked == ["POST"]  # it is sent once
    assert listen.locator("#hearing").is_hidden()
    assert transcript.locator("p").count() == 2
    assert listen.locator(".speaker").all_inner_texts() == ["Speaker A"]  # the same in both, so it is named once
    words = listen.locator(".word")
    assert words.count() > 6
    # three bars of the waveform at least: not an empty canvas
    drawn = listen.locator("#wave").evaluate(
        "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert drawn > 2

    watch_marks(listen)
    words.nth(3).click()
    expect(listen.locator("#transcript")).to_have_attribute("data-marked", re.compile("^word4 word5"))  # it plays on
    listen.get_by_role("button", name="Pause").click()
    starts_s = float((words.nth(3).get_attribute("title") or "").removesuffix(" s"))
    assert float(listen.locator("#at").input_value()) > starts_s
    words.nth(3).focus()
    listen.keyboard.press("ArrowRight")
    expect(words.nth(4)).to_be_focused()


def test_a_transcript_is_saved_as_text_and_as_subtitles(listen: Page) -> None:
    choose(listen, said_twice())
    keep = listen.locator("#keep")
    expect(keep).to_be_visible()
    name, text = saved(listen, keep.get_by_text("Text"))
    assert name == "said-twice.txt"
    lines = text.decode().splitlines()
    assert [line.partition(" word")[0] for line in lines] == ["Speaker A:", "Speaker A:"]
    _, srt = saved(listen, keep.get_by_text("SRT"))
    cues = re.findall(r"(\d+)\n(\S+) --> (\S+)\n(.+)\n", srt.decode())
    assert [(number, said) for number, *_, said in cues] == [("1", lines[0]), ("2", lines[1])]
    times = [seconds(time) for _, start, end, _ in cues for time in (start, end)]
    assert times == sorted(times)
    _, vtt = saved(listen, keep.get_by_text("VTT"))
    assert vtt.decode().startswith("WEBVTT\n\n00:00:0")
    assert "<v Speaker A>word1" in vtt.decode()

    listen.locator("#speakers").uncheck()
    choose(listen, said_twice())
    expect(keep).to_be_hidden()
    expect(keep).to_be_visible()
    assert "Speaker" not in listen.locator("#transcript").inner_text()


def test_what_is_no_sound_is_refused_beside_the_button(listen: Page, engine: FakeEngine) -> None:
    choose(listen, b"this is no sound at all", "broken.wav")
    expect(listen.locator("#choose-wrong")).to_be_visible()
    expect(listen.locator("#choose")).to_be_focused()
    expect(listen.locator("#hearing")).to_be_hidden()
    engine.delay_ms = 300.0
    choose(listen, said_twice())
    expect(listen.locator("#choose-wrong")).to_have_count(0)
    listen.locator("#hear-stop").click()
    expect(listen.locator("#hearing")).to_be_hidden()
    expect(listen.locator(".growing")).to_have_count(0)


def test_a_text_is_heard_while_it_is_made_and_then_saved(listen: Page, engine: FakeEngine) -> None:
    assert listen.locator("#manner option").count() == 6
    listen.locator("#read-go").click()
    expect(listen.locator("#text-wrong")).to_be_visible()
    engine.delay_ms = 150.0
    listen.locator("#text").fill("One two three four five six seven eight nine ten.")
    listen.locator("#voice").select_option("coral")
    listen.locator("#manner").select_option("Whisper")
    listen.locator("#speed").fill("1.5")
    expect(listen.locator("#speed-shown")).to_have_text("1.5 ×")
    listen.locator("#read-go").click()
    strip = listen.locator("#spoken .sound")
    expect(strip.get_by_role("button", name=re.compile("^Stop"))).to_be_visible()  # it sounds
    assert listen.locator("#read-stop").is_visible()  # and is still being made
    expect(listen.locator("#spoken")).to_contain_text("first sound after")
    expect(strip.get_by_role("button", name=re.compile("^Play"))).to_be_visible()
    asked = engine.requests[-1]
    assert (asked.params.voice, asked.params.script) == ("coral", "one two three four five six seven eight nine ten")
    assert asked.messages[-1].text.startswith("whisper:")
    _, data = saved(listen, strip.get_by_role("button", name=re.compile("^Save")))
    with wave.open(io.BytesIO(data)) as sound:
        assert sound.getframerate() == RATE_HZ
        duration_s = sound.getnframes() / RATE_HZ
    assert 0.9 < duration_s < 1.5  # of 1.6 s, played faster
    name, mp3 = saved(listen, listen.get_by_text("Save as MP3"))
    assert name == "one-two-three-four-five-six-seven-eight-n.mp3"
    with av.open(io.BytesIO(mp3), "r") as decoded:
        samples = sum(frame.samples for frame in decoded.decode(audio=0))
    assert abs(samples / RATE_HZ - duration_s) < 0.15


def test_the_shown_programs_run(listen: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sound.wav").write_bytes(said_twice())

    def run() -> str:
        shown = listen.locator("#code-text").inner_text()
        return subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout

    listen.locator("#hear-code").click()
    printed = run()
    assert printed.startswith("word1 word2")
    assert " (A)\n" in printed
    assert re.search(r"^ +\d\.\d\d +\d\.\d\d word1$", printed, re.MULTILINE)
    listen.get_by_text("curl", exact=True).click()
    if shutil.which("curl"):
        shown = listen.locator("#code-text").inner_text()
        answer = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True).stdout
        events = [
            json.loads(line.removeprefix("data: ")) for line in answer.split("\n\n") if line.startswith("data: {")
        ]
        segment = next(event for event in events if event["type"] == "transcript.text.segment")
        assert segment["words"][0]["word"] == "word1"
    listen.keyboard.press("Escape")
    listen.locator("#text").fill("hello")
    listen.locator("#read-code").click()
    listen.get_by_text("Python", exact=True).click()
    run()
    assert Path("said.mp3").stat().st_size > 500
    listen.get_by_text("JavaScript", exact=True).click()
    expect(listen.locator("#code-text")).to_contain_text("client.audio.speech.create({")
