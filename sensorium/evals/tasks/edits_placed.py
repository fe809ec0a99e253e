"""Changing one of several things where the order says which by its place: "remove the star on the left"."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Viewer
from sensorium.evals.task import Goal, Task


def edits_placed(judge: Viewer) -> Task:
    return Task(
        name="edits_placed",
        title="a scene of several things and an order that says where one is; everything else must stay in its place",
        score=scorers.edited(judge),
        metric="right",
        chance=scorers.unchanged,
        goals=(Goal("right", 0.75),),
    )
