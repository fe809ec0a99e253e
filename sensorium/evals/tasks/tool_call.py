"""Calling tools: functions are offered, a typed or spoken order needs one of them, or none."""

from sensorium.evals import scorers
from sensorium.evals.task import Goal, Task, most_frequent


def tool_call() -> Task:
    return Task(
        name="tool_call",
        title="an order never trained on, and functions: name and arguments must be right, or the words if none fits",
        score=scorers.tool_call,
        metric="exact",
        chance=most_frequent,
        goals=(Goal("exact", 0.95, "typed"), Goal("exact", 0.85, "spoken")),
    )
