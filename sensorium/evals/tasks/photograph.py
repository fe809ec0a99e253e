"""Seeing real things: groceries in a shop, clothes on a table."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def photograph() -> Task:
    return Task(
        name="photograph",
        title="what a photograph shows, from held-out pictures; right word for word",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.60, "groceries"), Goal("exact", 0.75, "clothes")),
    )
