"""Hearing: a clip with a sentence that was never trained on; its transcript must be right word for word."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def spoken_command() -> Task:
    return Task(
        name="spoken_command",
        title="a spoken order or question, never trained on; every word of its transcript must be right",
        score=scorers.heard,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.90, "seen voices"), Goal("exact", 0.75, "unseen voices")),
    )
