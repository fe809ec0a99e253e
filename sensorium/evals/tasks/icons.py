"""Naming icons in a style, or a combination of style and colours, that was never trained on."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def icons() -> Task:
    return Task(
        name="icons",
        title="an icon in a look never trained on; its name must be right",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.80),),
    )
