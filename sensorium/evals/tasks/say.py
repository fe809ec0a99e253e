"""Speaking: a typed sentence said aloud, judged beside the original voice and the codec's round trip of it."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Transcriber
from sensorium.evals.task import Goal, Task


def say(judge: Transcriber) -> Task:
    return Task(
        name="say",
        title="a typed sentence, never trained on, said aloud; the word errors of a separately trained recogniser",
        score=scorers.speech(judge),
        metric="wer",
        chance=scorers.other_sentences,
        goals=(Goal("wer", 0.12, at_most=True),),
        is_error=True,
    )
