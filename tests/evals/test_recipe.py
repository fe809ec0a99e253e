"""`recipes/evals.py`: held-out samples, an engine as a sampler, and a whole run against the scripted engine."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch

from recipes import evals as recipe
from sensorium.data.generators.dialogues import is_heldout
from sensorium.engine.fake import FakeEngine
from sensorium.evals import judges, report
from sensorium.evals.run import run
from sensorium.evals.scorers import Edited, SeenObject, SeenScene
from sensorium.evals.task import Reply, Sample
from sensorium.evals.tasks import every_task
from sensorium.messages import Audio, Image, Message, Text, ToolCall, Video
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from tests.evals.scripted import Gallery, ScriptedSampler, clip, manner, transcribe

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RECORDED = ("real_word", "real_order", "photograph", "command")


NAMES = [name for name in recipe.SAMPLES if name not in RECORDED or REAL_DATA.is_dir()]  # else it is not beside us


@cache
def samples_of(name: str) -> list[Sample]:
    """Three of each condition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORIUM_DATA", str(REAL_DATA))
        make = recipe.SAMPLES[name]
        return list(make(3, None) if name == "say" else make(3))


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_distinct_balanced_and_do_not_tell_the_answer(name: str):
    samples = samples_of(name)
    assert len({sample.id for sample in samples}) == len(samples)
    if name not in ("word_reading", "draw"):  # their conditions come as the generator draws them
        assert set(Counter(sample.condition for sample in samples).values()) == {3}
    parts = [part for sample in samples for message in sample.messages for part in message.parts]
    assert all(part.transcript is None and not part.words for part in parts if isinstance(part, Audio))
    assert all(part.caption is None for part in parts if isinstance(part, Image | Video))
    assert all(sample.messages[-1].role == "user" and sample.target for sample in samples)


def test_every_task_has_samples_and_the_other_way_round():
    assert [task.name for task in every_task(transcribe, Gallery().see, manner, Gallery().name)] == list(recipe.SAMPLES)


def test_what_is_said_was_never_trained_on():
    assert all(is_heldout(sample.target) for sample in samples_of("spoken_command") + samples_of("say"))
    assert all(is_heldout(sample.metadata["said"]) for sample in samples_of("spoken_question"))


def as_edited(edited: Edited) -> list[SeenObject]:
    """What was kept, and as far off as told, across the picture's edge if need be, what was added."""
    if edited.added is None:
        return list(edited.kept)
    (other,) = edited.kept
    right, down = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}[edited.relation]
    return [other, SeenObject(*edited.added, other.x + 0.4 * right, other.y + 0.4 * down, 0.1)]


@pytest.mark.parametrize("name", NAMES)
async def test_a_perfect_model_is_perfect_on_the_real_samples(name: str):
    gallery = Gallery()

    def perfect(sample: Sample) -> Reply:
        call, drawing = sample.metadata.get("call"), sample.metadata.get("drawing")
        edited = sample.metadata.get("edited")
        places = [(0.2, 0.2), (0.3, 0.8), (0.8, 0.5), (0.5, 0.5), (0.9, 0.9)]
        if drawing and drawing.relation == "left of":
            places[1] = (0.8, 0.3)
        looks = zip(drawing.looks, places, strict=False) if drawing else ()
        objects = [SeenObject(colour, shape, x, y, 0.1) for (colour, shape), (x, y) in looks]
        if icon := sample.metadata.get("icon"):
            objects = [SeenObject("red", icon, 0.5, 0.5, 0.3)]
        if edited:
            objects += as_edited(edited)
        scene = SeenScene(tuple(objects), True)
        ground = sample.metadata["palette"].get(sample.metadata["colour"], (0, 0, 0)) if icon else (0, 0, 0)
        return Reply(
            text=sample.target if sample.modality == "text" else "",
            transcript=sample.target,
            heard=(sample.metadata.get("said", sample.target),),
            audio=clip(sample.target, sample.metadata.get("style", "")),
            images=(gallery.picture(scene, ground=ground),),
            tool_calls=(ToolCall(id="call_1", name=call[0], arguments=call[1]),) if call else (),
        )

    task = next(task for task in every_task(transcribe, gallery.see, manner, gallery.name) if task.name == name)
    record = report.task_record(await run(task, samples_of(name), ScriptedSampler(samples_of(name), perfect)))
    assert [row["mean"] for row in record["rows"] if row["metric"] == task.metric and row["unscored"]] == []
    assert all(goal["is_met"] for goal in record["goals"])


async def test_an_engine_as_a_sampler_gathers_all_events():
    sampler = recipe.EngineSampler(FakeEngine())

    async def ask(text: str, modality: str = "text") -> Reply:
        message = Message(role="user", parts=(Text(text=text),))
        return await sampler.sample([message], modality=modality, voice="alloy", seed=0)  # pyright: ignore[reportArgumentType]

    written = await ask("hello")
    assert written.text == 'You said "hello".'
    assert written.audio is None
    assert written.ttft_ms is not None
    spoken = await ask("hello", "audio")
    assert spoken.transcript == 'You said "hello".'
    assert spoken.audio is not None
    assert spoken.audio.duration_ms == pytest.approx(3 * 160)
    assert spoken.ttfa_ms is not None
    assert len((await ask("draw it")).images) == 1
    (call,) = (await ask('call look {"at":"me"}')).tool_calls
    assert (call.name, call.arguments) == ("look", '{"at":"me"}')


def test_the_codec_round_trip_keeps_the_length():
    torch.manual_seed(0)
    config = AudioTokenizerConfig(size=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    through = recipe.round_trip(AudioTokenizer(config).eval())
    back = through(clip(""))  # 1600 samples
    assert len(back.waveform) == 1600


def test_a_whole_run_against_the_scripted_engine(tmp_path: Path):
    def measure(weights: str = "w", n: int = 2) -> report.Report:
        chosen = ("typed_question", "say", "draw")
        return recipe.measure(FakeEngine(), None, weights, tmp_path / "out", n, chosen, judges.SHIPPED)

    measured = measure()
    assert [task["name"] for task in measured["tasks"]] == ["typed_question", "say", "draw"]
    assert report.load(tmp_path / "out" / "evals.json") == measured
    assert (tmp_path / "out" / "evals.md").read_text().count("\n") > 4
    assert (tmp_path / "out" / "evals.png").exists()
    lines = (tmp_path / "out" / "say.jsonl").read_text().splitlines()
    assert [json.loads(line)["target"] for line in lines] == [sample.target for sample in samples_of("say")[:2]]
    assert measure()["tasks"] == measured["tasks"]
    with pytest.raises(ValueError, match="another checkpoint"):
        measure(weights="other")


def test_a_network_is_examined_in_what_it_was_taught(tmp_path: Path):
    assert recipe.taught(tmp_path) == tuple(recipe.SAMPLES), "nobody says what it was taught"
    settings = {"settings": {"network": {"weights": {"hear": 0.5, "edit": 0.5}}}}
    (tmp_path / "training.json").write_text(json.dumps(settings))
    assert {"spoken_command", "edits"} <= set(recipe.taught(tmp_path))
    assert not {"translation", "real_word"} & set(recipe.taught(tmp_path))


def test_without_recorded_sets_the_rest_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(recipe, "measure", lambda *args: asked.append(args[5]))
    monkeypatch.setattr(recipe, "taught", lambda checkpoint: tuple(recipe.SAMPLES))
    monkeypatch.setenv("SENSORIUM_DATA", str(tmp_path))
    recipe.main(judges.SHIPPED.with_name("nano"), tmp_path / "out")
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("SENSORIUM_DATA")
    recipe.main(judges.SHIPPED.with_name("nano"), tmp_path / "out")
    assert asked == [tuple(recipe.SAMPLES), tuple(name for name in recipe.SAMPLES if name not in recipe.REAL)]
    assert f"left out: {', '.join(sorted(recipe.REAL, key=list(recipe.SAMPLES).index))}\n" in capsys.readouterr().out


def test_an_unknown_task_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown task sing"):
        recipe.main(tmp_path, tmp_path, tasks=("sing",))
