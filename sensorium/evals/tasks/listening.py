"""Hearing more than words: how something is said, what is behind it, how many say it."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Reply, Sample, Score, Scores, Task, most_frequent


def listening() -> Task:
    return Task(
        name="listening",
        title="how a sentence is said (6 ways; marked: whispered, shouted, fast or none of them), what is behind it "
        "(8), how many speak (3), in voices never trained on",
        score=told,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.90, "style"), Goal("marked", 0.90, "style")),
    )


def told(sample: Sample, reply: Reply) -> Scores:
    """The reply must be the target; `marked` is whether a style was told as whispered, shouted, fast or none of them.

    With `metadata["is_ending"]` the target is the end of a right reply, as a number is behind the voices that speak.
    Between people usual, calm and slow overlap. `metadata["unmarked"]` holds their replies.
    """
    scores = scorers.answer(sample, reply)
    if sample.metadata.get("is_ending"):
        return {"exact": Score(float(scorers.normalized(reply.words).endswith(scorers.normalized(sample.target))))}
    if "unmarked" in sample.metadata:
        unmarked = [scorers.normalized(words) for words in sample.metadata["unmarked"]]
        is_unmarked = scorers.normalized(sample.target) in unmarked
        scores["marked"] = Score(float(scorers.normalized(reply.words) in unmarked)) if is_unmarked else scores["exact"]
    return scores
