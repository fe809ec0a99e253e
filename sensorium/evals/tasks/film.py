"""Watching a film: what happens in it and in which order, what moves where, how much there is, what is said."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, blind


def film() -> Task:
    return Task(
        name="film",
        title="a question about a film whose story was never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=blind,
        goals=tuple(
            Goal("exact", 0.75, kind)
            for kind in ("story", "order", "direction", "motion", "change", "presence", "count", "said")
        ),
    )
