"""Short phrases from one of four languages to another; what is answered aloud is also listened to by a judge."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Transcriber
from sensorium.evals.task import Task, most_frequent


def translation(judge: Transcriber) -> Task:
    return Task(
        name="translation",
        title="a phrase whose meaning was never trained on, in another language; right word for word",
        score=scorers.translated(judge),
        metric="exact",
        chance=most_frequent,
    )
