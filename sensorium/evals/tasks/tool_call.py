"""Calling tools: functions are offered, a typed or spoken order needs one of them, or none."""

from sensorium.evals import scorers
from sensorium.evals.task import Task, most_frequent


def tool_call() -> Task:
    return Task(
        name="tool_call",
        title="an order never trained on and functions to call; name and arguments must be right",
        score=scorers.tool_call,
        metric="exact",
        chance=most_frequent,
    )
