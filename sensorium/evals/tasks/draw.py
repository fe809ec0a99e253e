"""Drawing: a scene in words; a separately trained detector says what the picture holds."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Viewer
from sensorium.evals.task import Goal, Task


def draw(judge: Viewer) -> Task:
    return Task(
        name="draw",
        title="a scene in words, drawn: shapes, colours, number and relation must be right (the words are trained on)",
        score=scorers.drawing(judge),
        metric="right",
        chance=scorers.other_drawings,
        goals=(Goal("right", 0.85),),
    )
