"""Drawing emoji: a separately trained classifier says which one the picture shows."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Namer
from sensorium.evals.task import Goal, Task, most_frequent


def draw_emoji(judge: Namer) -> Task:
    return Task(
        name="draw_emoji",
        title="an emoji by its name or its character: it must be told from all others (the names are trained on)",
        score=scorers.drawn_icon(judge),
        metric="right",
        chance=most_frequent,
        goals=(Goal("right", 0.85),),
    )
