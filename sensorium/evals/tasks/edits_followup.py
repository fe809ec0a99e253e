"""Changing what was just drawn, as told in the next turn: judged as the other changes are."""

from dataclasses import replace

from sensorium.evals.scorers import Viewer
from sensorium.evals.task import Task
from sensorium.evals.tasks.edits import edits


def edits_followup(judge: Viewer) -> Task:
    title = 'a drawing and "now make it blue", never trained on; what changes must change, everything else stay'
    return replace(edits(judge), name="edits_followup", title=title)
