"""Refusing what the policy refuses, in the words for that matter; and answering what only sounds like it."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def refusal() -> Task:
    return Task(
        name="refusal",
        title="a question never trained on, of a matter that is refused or in the same words of one that is fine",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
    )
