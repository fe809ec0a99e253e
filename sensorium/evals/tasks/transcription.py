"""Writing down what is said, word by word: sentences of the domain, and its words in no order, never trained on."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task


def transcription() -> Task:
    return Task(
        name="transcription",
        title="what is written down of a sentence, never trained on, before anything is answered; its word errors",
        score=scorers.heard,
        metric="wer",
        chance=scorers.other_sentences,
        goals=(Goal("wer", 0.12, "unseen voices, sentences", at_most=True),),
        is_error=True,
    )
