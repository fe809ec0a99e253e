"""Short phrases from one of four languages to another; what is answered aloud is read from its transcript."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def translation() -> Task:
    return Task(
        name="translation",
        title="a phrase whose meaning was never trained on, in another language; right word for word",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
    )
