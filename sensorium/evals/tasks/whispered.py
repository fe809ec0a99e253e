"""Using how something was said: a question that is whispered is answered in a whisper, and no other is."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Listener, Transcriber
from sensorium.evals.task import Chance, Task


def whispered(judge: Listener, transcribe: Transcriber) -> Task:
    return Task(
        name="whispered",
        title="a question, whispered or in another manner, by voices never trained on: a whisper must be answered in a "
        "whisper, and nothing else (the answer's words count apart)",
        score=scorers.whispered(judge, transcribe),
        metric="manner",
        chance=lambda samples: Chance(0.5, "whispering or not, by the toss of a coin"),
    )
