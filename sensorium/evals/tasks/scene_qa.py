"""Seeing: questions about a drawn scene, by what they ask for."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, blind

KINDS = ("description", "presence", "colour", "shape", "relation", "background", "place")


def scene_qa() -> Task:
    return Task(
        name="scene_qa",
        title="a question about a scene never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=blind,
        goals=(*(Goal("exact", 0.92, kind) for kind in KINDS), Goal("exact", 0.85, "count")),
    )
