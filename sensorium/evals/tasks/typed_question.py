"""The same questions typed: what the network knows when hearing is not in the way."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def typed_question() -> Task:
    return Task(
        name="typed_question",
        title="a typed question, never trained on; the answer must be right word for word",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
    )
