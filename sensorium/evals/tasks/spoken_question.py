"""Hearing and thinking: a spoken question, answered in text or in speech that a judge listens to."""

from sensorium.evals import scorers
from sensorium.evals.scorers import Transcriber
from sensorium.evals.task import Goal, Reply, Sample, Scores, Task, most_frequent

_ALOUD = "seen voices, spoken answer"


def spoken_question(judge: Transcriber) -> Task:
    """`metadata["said"]` is the question, to tell what was misheard from what was not known; where it is typed,
    `metadata["is_spoken"]` is False."""
    aloud = scorers.spoken_answer(judge)

    def score(sample: Sample, reply: Reply) -> Scores:
        scores = aloud(sample, reply) if sample.modality == "audio" else scorers.answer(sample, reply)
        if sample.metadata["is_spoken"]:
            scores["heard"] = scorers.exact(sample.metadata["said"], " ".join(reply.heard))
        return scores

    return Task(
        name="spoken_question",
        title="a question, spoken or typed, never trained on; the answer must be right word for word",
        score=score,
        metric="exact",
        chance=most_frequent,
        goals=tuple(
            Goal("exact", 0.08, condition, at_most=True, behind="the same questions, typed")
            for condition in ("seen voices, written answer", "unseen voices, written answer", _ALOUD)
        ),
    )
