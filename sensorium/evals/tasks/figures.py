"""Reading facts off a picture: a clock's time, the heights of bars, the fields of a form."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, blind


def figures() -> Task:
    return Task(
        name="figures",
        title="a question about a clock, a chart or a form never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=blind,
    )
