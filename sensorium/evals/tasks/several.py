"""Seeing several pictures at once: what one shows, which shows what, in how many something is, how they differ."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, blind


def several() -> Task:
    return Task(
        name="several",
        title="a question about two to four pictures never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=blind,
        goals=tuple(Goal("exact", 0.75, kind) for kind in ("what", "which", "count", "same", "difference")),
    )
