"""What tests of evaluations share: hand-made samples and models that are perfect, silent or wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sensorium.evals.task import Modality, Reply, Sample
from sensorium.messages import Message, Text


class ScriptedSampler:
    """Replies as a function of the sample: `Sampler` for tests."""

    def __init__(self, samples: Sequence[Sample], reply: Callable[[Sample], Reply]) -> None:
        self._samples = {id(sample.messages): sample for sample in samples}
        self._reply = reply
        self.asked: list[str] = []

    async def sample(self, messages: Sequence[Message], *, modality: Modality, voice: str, seed: int) -> Reply:
        sample = self._samples[id(messages)]
        assert (modality, voice) == (sample.modality, sample.voice)
        self.asked.append(sample.id)
        return self._reply(sample)


def typed_sample(sample_id: str, target: str, condition: str = "all") -> Sample:
    prompt = (Message(role="user", parts=(Text(text=f"say {target}"),)),)
    return Sample(id=sample_id, messages=prompt, target=target, condition=condition)
