"""Drawing icons, in a colour if one is asked for: a separately trained classifier says what the picture shows."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Namer
from sensorium.evals.task import Goal, Task, most_frequent


def draw_icon(judge: Namer) -> Task:
    return Task(
        name="draw_icon",
        title="an icon by name or in a colour never trained on for it: it must be told from all others, and have it",
        score=scorers.drawn_icon(judge),
        metric="right",
        chance=most_frequent,
        goals=(Goal("right", 0.85),),
    )
