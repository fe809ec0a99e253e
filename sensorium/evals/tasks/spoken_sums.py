"""Sums of single digits, spoken in a wording that was never trained on; the number must be right."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def spoken_sums() -> Task:
    return Task(
        name="spoken_sums",
        title="a spoken sum of single digits, never trained on in these words; the number must be right",
        score=scorers.number,
        metric="right",
        chance=most_frequent,
        goals=(Goal("right", 0.80, "seen voices"), Goal("right", 0.80, "unseen voices")),
    )
