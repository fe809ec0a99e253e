"""Hearing more than words: how something is said, what is behind it, how many say it."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def listening() -> Task:
    return Task(
        name="listening",
        title="how a sentence is said (6 ways), what is behind it (8), how many speak (3), in voices never trained on",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.90, "style"),),
    )
