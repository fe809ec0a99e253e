"""Every task on models that are perfect, silent and wrong: what each must come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensorium.evals import tasks
from sensorium.evals.report import TaskRecord, task_record
from sensorium.evals.run import run
from sensorium.evals.scorers import Drawing, Edited, SeenObject, SeenScene
from sensorium.evals.task import Reply, Sample, Task, Unscored
from sensorium.evals.tasks import every_task
from sensorium.messages import ToolCall
from tests.evals.scripted import Gallery, ScriptedSampler, clip, manner, transcribe, typed_sample

GALLERY = Gallery()
TASKS = {task.name: task for task in every_task(transcribe, GALLERY.see, manner, GALLERY.name)}
WORDS = ("one plus two is three", "four plus four is eight", "nine minus nine is zero", "a star above a ring")


def samples_of(task: Task) -> list[Sample]:
    """Four samples of each condition that the task has goals for."""
    names = list(dict.fromkeys([*(goal.condition for goal in task.goals), "all"]))
    made = [typed_sample(f"{name} {i}", words, condition=name) for name in names for i, words in enumerate(WORDS)]
    if task.name == "spoken_sums":
        made = [sample for sample in made if sample.target != WORDS[-1]]
    known = [replace(sample, metadata=_metadata(sample, index)) for index, sample in enumerate(made)]
    if task.name == "whispered":
        return [replace(sample, metadata={**sample.metadata, "style": "whisper"}) for sample in known]
    return known


def _metadata(sample: Sample, index: int) -> dict[str, Any]:
    """What any scorer looks for."""
    look = SeenObject("red", f"shape {index}", 0.5, 0.5, 0.2)
    return {
        "said": sample.target,
        "is_spoken": True,
        "original": clip(sample.target),
        "guess": WORDS[0],
        "call": ("tool", f'{{"number":{index}}}'),
        "drawing": Drawing((("red", f"shape {index}"),)),
        "edited": Edited((SeenObject("blue", f"shape {index}", 0.5, 0.5, 0.2),), (look,)),
        "icon": f"shape {index}",
        "offered": 2,
        "style": f"style {index}",
        "unmarked": WORDS[2:],
    }


def perfect(sample: Sample) -> Reply:
    name, arguments = sample.metadata["call"]
    seen = tuple(SeenObject(colour, shape, 0.5, 0.5, 0.2) for colour, shape in sample.metadata["drawing"].looks)
    return Reply(
        text=sample.target,
        transcript=sample.target,
        heard=(sample.target,),
        audio=clip(sample.target, sample.metadata["style"]),
        images=(GALLERY.picture(SeenScene(seen, True)),),
        tool_calls=(ToolCall(id="call_1", name=name, arguments=arguments),),
    )


def wrong(sample: Sample) -> Reply:
    return Reply(
        text="seventeen",
        transcript="seventeen",
        heard=("seventeen",),
        audio=clip("seventeen"),
        images=(GALLERY.picture(SeenScene((), True)),),
        tool_calls=(ToolCall(id="call_1", name="other", arguments="{}"),),
    )


async def record_of(task: Task, reply: Callable[[Sample], Reply]) -> TaskRecord:
    samples = samples_of(task)
    return task_record(await run(task, samples, ScriptedSampler(samples, reply)))


def means(record: TaskRecord) -> set[float | None]:
    return {row["mean"] for row in record["rows"] if row["metric"] == record["metric"]}


@pytest.mark.parametrize("name", TASKS)
async def test_a_perfect_model_meets_every_goal(name: str):
    record = await record_of(TASKS[name], perfect)
    assert means(record) == {0.0 if record["is_error"] else 1.0}
    assert all(goal["is_met"] for goal in record["goals"])
    assert record["examples"] == []


@pytest.mark.parametrize("reply", [wrong, lambda sample: Reply()], ids=["wrong", "silent"])
@pytest.mark.parametrize("name", TASKS)
async def test_a_wrong_or_silent_model_meets_none(name: str, reply: Callable[[Sample], Reply]):
    record = await record_of(TASKS[name], reply)
    assert means(record) == {1.0 if record["is_error"] else 0.0}
    assert not any(goal["is_met"] for goal in record["goals"])
    assert record["examples"]


@pytest.mark.parametrize("name", TASKS)
async def test_every_headline_has_a_chance_level_far_from_perfect(name: str):
    record = await record_of(TASKS[name], perfect)
    chances = [row["chance"] for row in record["rows"] if "chance" in row]
    assert len(chances) == len({row["condition"] for row in record["rows"]})
    assert all(chance > 0.3 if record["is_error"] else chance <= 0.5 for chance in chances)
    assert record["chance"]


@pytest.mark.parametrize(
    ("target", "reply", "exact", "marked"),
    [
        ("you speak calmly", "you speak slowly", 0.0, 1.0),
        ("you speak calmly", "You speak calmly.", 1.0, 1.0),
        ("you speak calmly", "you whisper", 0.0, 0.0),
        ("you whisper", "you whisper", 1.0, 1.0),
        ("you whisper", "you speak slowly", 0.0, 0.0),
        ("you whisper", "you shout", 0.0, 0.0),
    ],
)
def test_slow_for_calm_is_wrong_but_not_marked(target: str, reply: str, exact: float, marked: float):
    unmarked = ("you speak as usual", "you speak slowly", "you speak calmly")
    asked = replace(typed_sample("style 0", target, condition="style"), metadata={"unmarked": unmarked})
    scores = TASKS["listening"].score(asked, Reply(text=reply))
    assert not isinstance(scores, Unscored)
    assert {name: score.value for name, score in scores.items()} == {"exact": exact, "marked": marked}


def test_a_task_is_one_short_file_of_its_name():
    folder = Path(tasks.__file__).parent
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    assert files.keys() == TASKS.keys()
    assert all(len(path.read_text().splitlines()) < 60 for path in files.values())
