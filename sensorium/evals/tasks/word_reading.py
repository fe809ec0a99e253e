"""Reading: one word or number in a font that was never trained on."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def word_reading() -> Task:
    return Task(
        name="word_reading",
        title="a word in a picture, neither the word nor its font trained on; every letter must be right",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.90),),
    )
