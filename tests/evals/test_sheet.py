"""`recipes/sheet.py`: the page of samples, against the scripted engine."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import soundfile
from PIL import Image as Pillow

from recipes import sheet
from sensorium.engine.fake import FakeEngine
from sensorium.evals.tasks import every_task
from sensorium.messages import Audio, Image
from tests.evals.scripted import Gallery, manner, transcribe

TASKS = [
    task
    for task in every_task(transcribe, Gallery().see, manner, Gallery().name)
    if task.name in ("typed_question", "spoken_question", "word_reading", "film", "draw", "say", "tool_call")
]


class Tags(HTMLParser):
    """Counts what opens, and fails where something is closed that is not open."""

    VOID = ("meta", "img", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


async def test_every_task_has_its_cases_with_what_belongs_to_them():
    made = await sheet.page(FakeEngine(), TASKS, "abc", 4)
    tags = Tags()
    tags.feed(made)
    assert tags.open == []
    assert tags.seen.count("tr") == 4 * len(TASKS)
    for task, section in zip(TASKS, re.split(r"<h2 ", made)[1:], strict=True):
        assert section.startswith(f'id="{task.name}"')
        clips = {"spoken_question": 4, "say": 4, "tool_call": 2, "whispered": 4}
        assert section.count("<audio") == clips.get(task.name, 0) or task.name == "film"
        assert section.count("<img") >= {"word_reading": 4, "film": 8}.get(task.name, 0)
        assert section.count("right:") == section.count('class="wrong"') + section.count("unsure")


def test_sound_and_pictures_are_really_in_it():
    audio = Audio(waveform=np.sin(np.arange(24_000) / 5).astype(np.float32) / 2, sample_rate_hz=24_000)
    heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sheet.opus(audio))))
    assert abs(len(heard) / rate_hz - 1.0) < 0.05
    assert np.abs(heard).max() > 0.3
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with Pillow.open(io.BytesIO(base64.b64decode(sheet.png(Image(pixels=pixels))))) as picture:
        assert np.array_equal(np.array(picture), pixels)
    assert sheet.waveform(audio).count("M") == 150


def test_conditions_take_turns():
    samples = sheet.drawn("spoken_command", 5)
    assert [sample.id for sample in samples] == [sample.id for sample in sheet.drawn("spoken_command", 5)]
    assert [sample.condition for sample in samples] == [*["seen voices", "unseen voices"] * 2, "seen voices"]
