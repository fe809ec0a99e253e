"""Changing a picture as told: a separately trained detector says what the new one holds, and where."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Viewer
from sensorium.evals.task import Goal, Task


def edits(judge: Viewer) -> Task:
    return Task(
        name="edits",
        title="a scene and an order, never trained on; what changes must change, everything else stay in its place",
        score=scorers.edited(judge),
        metric="right",
        chance=scorers.unchanged,
        goals=(Goal("right", 0.75),),
    )
