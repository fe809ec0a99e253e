"""What a tutor is asked: sums to a hundred, units, times, what a thing is, spelling; and what it does not know."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def lesson() -> Task:
    return Task(
        name="lesson",
        title="a question, typed or spoken, never trained on, of a fact or skill that was; right word for word",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
    )
