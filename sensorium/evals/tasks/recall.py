"""Looking up: something told in text that was never trained on, and a question whose answer stands in it."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def recall() -> Task:
    return Task(
        name="recall",
        title="a question about a text just given and never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
    )
