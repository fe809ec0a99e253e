"""Drawing: a caption that was never trained on; a separately trained detector says what the picture holds."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Viewer
from sensorium.evals.task import Goal, Task


def draw(judge: Viewer) -> Task:
    return Task(
        name="draw",
        title="a caption never trained on, drawn; every shape and colour, their number and relation must be right",
        score=scorers.drawing(judge),
        metric="right",
        chance=scorers.other_drawings,
        goals=(Goal("right", 0.75),),
    )
