"""Hearing real people: what they order at a counter, as a call."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task


def real_order() -> Task:
    return Task(
        name="real_order",
        title="a coffee that a person ordered aloud, as a call; the share of slots that are filled in right",
        score=scorers.slots,
        metric="slots",
        chance=scorers.usual_slots,
        goals=(Goal("slots", 0.60),),
    )
