"""Hearing real people: single words that were recorded by many."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def real_word() -> Task:
    return Task(
        name="real_word",
        title="a word that a person recorded (Arabic: as said, or what it means; English words, digits), held out",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.85),),
    )
