"""Calling a function for an order in any of many languages."""

from sensorium.evals import scorers
from sensorium.evals.task import Task


def command() -> Task:
    return Task(
        name="command",
        title="a typed order to a home in one of 41 languages, as a call: the right function with equal arguments",
        score=scorers.tool_call,
        metric="exact",
        chance=scorers.any_offered,
    )
