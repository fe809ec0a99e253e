"""Hand-made samples and models that say what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sensorium.evals.scorers import SeenScene
from sensorium.evals.task import Modality, Reply, Sample
from sensorium.messages import Audio, Image, Message, Text


class ScriptedSampler:
    """A `Sampler` whose reply is a function of the sample. `asked` lists the samples in the order they came."""

    def __init__(self, samples: Sequence[Sample], reply: Callable[[Sample], Reply]) -> None:
        self._samples = {id(sample.messages): sample for sample in samples}
        self._reply = reply
        self.asked: list[str] = []

    async def sample(self, messages: Sequence[Message], *, modality: Modality, voice: str, seed: int) -> Reply:
        sample = self._samples[id(messages)]
        assert (modality, voice) == (sample.modality, sample.voice)
        self.asked.append(sample.id)
        return self._reply(sample)


def typed_sample(sample_id: str, target: str, *, condition: str = "all", **metadata: Any) -> Sample:
    prompt = (Message(role="user", parts=(Text(text=f"say {target}"),)),)
    return Sample(id=sample_id, messages=prompt, target=target, condition=condition, metadata=metadata)


def clip(words: str, style: str = "as usual") -> Audio:
    """Sound that `transcribe` hears as these words, and `manner` in this style."""
    return Audio(waveform=np.zeros(1600, np.float32), sample_rate_hz=16_000, transcript=words, voice=style)


def transcribe(audio: Audio) -> str:
    """A judge with perfect ears."""
    return audio.transcript or ""


def manner(audio: Audio) -> str:
    """A listener who misses no tone."""
    return audio.voice or ""


class Gallery:
    """Pictures, and a judge with perfect eyes for them."""

    def __init__(self) -> None:
        self._scenes: dict[int, tuple[Image, SeenScene]] = {}

    def picture(self, scene: SeenScene, *, ground: Sequence[int] = (0, 0, 0)) -> Image:
        image = Image(pixels=np.full((64, 64, 3), ground, np.uint8))
        self._scenes[id(image)] = (image, scene)
        return image

    def name(self, image: Image) -> str | None:
        """The first thing there is."""
        return next((item.shape for item in self.see(image).objects), "nothing")

    def see(self, image: Image) -> SeenScene:
        return self._scenes[id(image)][1]
