"""Naming emoji in a look that was never trained on."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def emoji() -> Task:
    return Task(
        name="emoji",
        title="an emoji in a look never trained on; its name must be right",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.80),),
    )
