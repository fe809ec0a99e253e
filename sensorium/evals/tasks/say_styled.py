"""Speaking in a manner: whispered, shouted, fast, slow or calm; a separately trained listener tells which."""

from collections.abc import Sequence

from sensorium.evals import scorers
from sensorium.evals.scorers import Listener, Transcriber
from sensorium.evals.task import Chance, Goal, Sample, Task


def say_styled(judge: Listener, transcribe: Transcriber) -> Task:
    def any_style(samples: Sequence[Sample]) -> Chance:
        num_styles = len({sample.metadata["style"] for sample in samples})
        return Chance(1 / (max(num_styles, 5) + 1), "any of the styles, or none")

    return Task(
        name="say_styled",
        title="a sentence, never trained on, whispered, shouted, said fast, slowly or calmly as asked",
        score=scorers.styled(judge, transcribe),
        metric="style",
        chance=any_style,
        goals=(Goal("style", 0.80),),
    )
