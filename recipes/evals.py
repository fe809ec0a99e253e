"""Measures a checkpoint on held-out data: every skill, with its chance level and standard error.

    python -m recipes.evals --checkpoint sensorium/checkpoints/nano --out runs/evals/nano --n 100
    python -m recipes.evals --checkpoint runs/nano/release --out runs/evals/nano --tasks say draw

Samples are the held-out documents of `sensorium.data.generators`; the judges of `recipes.judges` must have been
trained. What comes out: evals.json (read by `sensorium.evals.card`), evals.md, evals.png, and a line of JSON for every
reply in <task>.jsonl. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from sensorium.data.generators import dialogues, documents, pictures
from sensorium.data.generators.documents import Document, document
from sensorium.data.generators.recall import told
from sensorium.data.generators.scenes import Scene
from sensorium.data.generators.speech import PRESETS, Split, Synthesizer, in_room, random_speaker
from sensorium.engine.request import (
    AudioDelta,
    Engine,
    ImageDelta,
    InputTranscriptDelta,
    SamplingParams,
    TextDelta,
    ToolCallEvent,
    TranscriptDelta,
)
from sensorium.evals import judges, report
from sensorium.evals.judges import SceneJudge, SpeechJudge
from sensorium.evals.run import run
from sensorium.evals.scorers import Drawing
from sensorium.evals.task import Modality, Reply, Sample, Task
from sensorium.evals.tasks import every_task
from sensorium.messages import Audio, Image, Message, Part, Text, ToolCall
from sensorium.tokenizers.audio import AudioDecoderStream, AudioEncoderStream, AudioTokenizer

JUDGES = Path("runs/judges")
SEED = 1
_VOICES: dict[str, Split] = {"seen voices": "train", "unseen voices": "heldout"}  # who speaks; the words are held out

# --- a model


class EngineSampler:
    """An engine, here or behind a server, as evaluations want it: all events of a reply at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def sample(self, messages: Sequence[Message], *, modality: Modality, voice: str, seed: int) -> Reply:
        heard: dict[int, str] = {}
        text, transcript, sounds, images, calls = "", "", list[AudioDelta](), list[Image](), list[ToolCall]()
        ttft_ms = ttfa_ms = None
        start = time.perf_counter()
        async for event in self._engine.generate(messages, SamplingParams(modality=modality, voice=voice, seed=seed)):
            since_ms = 1000 * (time.perf_counter() - start)
            match event:
                case InputTranscriptDelta(clip=clip):
                    heard[clip] = heard.get(clip, "") + event.text
                case TextDelta():
                    text, ttft_ms = text + event.text, ttft_ms or since_ms
                case TranscriptDelta():
                    transcript, ttft_ms = transcript + event.text, ttft_ms or since_ms
                case AudioDelta():
                    sounds.append(event)
                    ttfa_ms = ttfa_ms or since_ms
                case ImageDelta(final=True):
                    images.append(Image(pixels=event.pixels))
                case ToolCallEvent():
                    calls.append(ToolCall(id=f"call_{len(calls) + 1}", name=event.name, arguments=event.arguments))
        return Reply(
            text=text,
            transcript=transcript,
            heard=tuple(heard[clip].strip() for clip in sorted(heard)),
            audio=_joined(sounds),
            images=tuple(images),
            tool_calls=tuple(calls),
            ttft_ms=ttft_ms,
            ttfa_ms=ttfa_ms,
        )


def _joined(sounds: Sequence[AudioDelta]) -> Audio | None:
    if not sounds:
        return None
    waveform = np.concatenate([sound.waveform for sound in sounds])
    return Audio(waveform=waveform, sample_rate_hz=sounds[0].sample_rate_hz)


def round_trip(codec: AudioTokenizer) -> Callable[[Audio], Audio]:
    """What is left of sound once the codec has had it: the best that a network which speaks its codes can do."""

    def through(audio: Audio) -> Audio:
        assert audio.sample_rate_hz == codec.config.sample_rate_hz
        encoder, decoder = AudioEncoderStream(codec), AudioDecoderStream(codec)
        samples = torch.from_numpy(audio.waveform)
        frames = torch.cat([encoder.push(samples).codes[0], encoder.flush().codes[0]])
        waveform = torch.cat((decoder.push(frames), decoder.flush()))
        return Audio(waveform=waveform.numpy(), sample_rate_hz=audio.sample_rate_hz)

    return through


# --- samples: n of each condition


def as_asked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """A conversation as a user brings it: clips without their transcripts."""

    def bare(part: Part) -> Part:
        return Audio(waveform=part.waveform, sample_rate_hz=part.sample_rate_hz) if isinstance(part, Audio) else part

    return tuple(replace(message, parts=tuple(bare(part) for part in message.parts)) for message in messages)


def _first_turn(made: Document) -> tuple[tuple[Message, ...], Part]:
    """The messages up to the first answer, and that answer."""
    at = next(index for index, message in enumerate(made.messages) if message.role == "assistant")
    return made.messages[:at], made.messages[at].parts[0]


def _said(messages: Sequence[Message]) -> str:
    """What the clip in a prompt says."""
    transcripts = [part.transcript for message in messages for part in message.parts if isinstance(part, Audio)]
    (transcript,) = transcripts
    assert transcript
    return transcript


def _heldout(task: str, *, speakers: Split | None = None, start: int = 0) -> Iterator[Document]:
    return (document(task, seed, split="heldout", speaker_split=speakers) for seed in count(start))


def spoken_command(n: int) -> Iterator[Sample]:
    for condition, speakers in _VOICES.items():
        for made in islice(_heldout("hear", speakers=speakers), n):
            prompt, _ = _first_turn(made)
            sample_id = f"{condition} {made.seed}"
            yield Sample(id=sample_id, messages=as_asked(prompt), target=_said(prompt), condition=condition)


def spoken_question(n: int) -> Iterator[Sample]:
    rows: list[tuple[str, str, Split, Modality]] = [
        *((f"{condition}, written answer", "hear", speakers, "text") for condition, speakers in _VOICES.items()),
        ("seen voices, spoken answer", "talk", "train", "audio"),
    ]
    for condition, task, speakers, modality in rows:
        for made in islice(_heldout(task, speakers=speakers, start=10_000), n):
            prompt, answer = _first_turn(made)
            yield Sample(
                id=f"{condition} {made.seed}",
                messages=as_asked(prompt),
                target=_words(answer),
                condition=condition,
                modality=modality,
                voice=_voice(made.seed),
                metadata={"said": _said(prompt)},
            )


def _words(answer: Part) -> str:
    words = answer.text if isinstance(answer, Text) else answer.transcript if isinstance(answer, Audio) else None
    assert words
    return words


def _voice(index: int) -> str:
    return tuple(PRESETS)[index % len(PRESETS)]


def spoken_sums(n: int) -> Iterator[Sample]:
    synthesizer = Synthesizer()
    for condition, speakers in _VOICES.items():
        rng = np.random.default_rng((SEED, len(condition)))
        for index in range(n):
            asked = dialogues.exchange(rng, "sum", split="heldout")
            utterance = synthesizer.speak(asked.question, random_speaker(rng, split=speakers))
            clip = in_room(utterance, rng, level=rng.random()).audio
            prompt = (Message(role="user", parts=(clip,)),)
            sample_id = f"{condition} {index}"
            yield Sample(id=sample_id, messages=as_asked(prompt), target=asked.answer, condition=condition)


def typed_question(n: int) -> Iterator[Sample]:
    for made in islice(_heldout("chat"), n):
        prompt, answer = _first_turn(made)
        yield Sample(id=str(made.seed), messages=prompt, target=_words(answer))


def recall(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 8))
    kinds = {"go on": "lists", "what goes": "pairs", "what": "things", "is there": "presence"}
    left = Counter(dict.fromkeys(kinds.values(), n))
    while left.total():
        given = told(rng, "heldout")
        question, answer = dialogues.pick(rng, given.questions)
        kind = next(kind for beginning, kind in kinds.items() if question.startswith(beginning))
        if left[kind] > 0:
            left[kind] -= 1
            prompt = Message(role="user", parts=(Text(text=f"{given.text} {question}"),))
            yield Sample(id=f"{kind} {left[kind]}", messages=(prompt,), target=answer, condition=kind)


def say(n: int, codec: Callable[[Audio], Audio] | None) -> Iterator[Sample]:
    for made in islice(_heldout("say"), n):
        prompt, answer = _first_turn(made)
        assert isinstance(answer, Audio)
        sounds = {"original": answer} | ({"codec": codec(answer)} if codec else {})
        yield Sample(
            id=str(made.seed),
            messages=prompt,
            target=_words(answer),
            modality="audio",
            voice=answer.voice or "",
            metadata=sounds,
        )


_QUESTIONS = {  # how a question about a scene begins -> what it asks for
    "what is in the picture": "description",
    "what colour is the background": "background",
    "what colour": "colour",
    "what shape": "shape",
    "how many": "count",
    "is there": "presence",
    "where is": "place",
    "what is": "relation",
    "is the": "relation",
}


def scene_qa(n: int) -> Iterator[Sample]:
    guesses = _usual_answers()
    rng = np.random.default_rng((SEED, 3))
    left = Counter(dict.fromkeys(_QUESTIONS.values(), n))
    while left.total():
        seen = pictures.scene(rng, split="heldout")
        for question, answer in seen.questions:
            kind = next(kind for beginning, kind in _QUESTIONS.items() if question.startswith(beginning))
            if left[kind] > 0 and rng.random() < 0.3:  # at most a few questions about one scene
                left[kind] -= 1
                yield Sample(
                    id=f"{kind} {left[kind]}",
                    messages=_about(rng, seen.pixels, question),
                    target=answer,
                    condition=kind,
                    metadata={"guess": guesses.get(question, "")},
                )


@cache
def _usual_answers() -> dict[str, str]:
    """The commonest answer to each question about a training scene."""
    rng = np.random.default_rng((SEED, 4))
    answers: dict[str, Counter[str]] = {}
    for _ in range(3000):
        for question, answer in pictures.scene(rng, split="train").questions:
            answers.setdefault(question, Counter())[answer] += 1
    return {question: counted.most_common(1)[0][0] for question, counted in answers.items()}


def _about(rng: np.random.Generator, pixels: np.ndarray, question: str) -> tuple[Message, ...]:
    picture, text = Image(pixels=pixels), Text(text=dialogues.typed(question, rng))
    return (Message(role="user", parts=(picture, text) if rng.random() < 0.5 else (text, picture)),)


def word_reading(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 5))
    for index in range(n):
        shown = pictures.word_picture(rng, split="heldout")
        word = shown.word
        kind = "numbers" if word.isdecimal() else "words" if word in pictures.WORDS else "made-up words"
        messages = _about(rng, shown.pixels, dialogues.pick(rng, documents.READ))
        yield Sample(id=str(index), messages=messages, target=word, condition=kind)


def icons(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 6))
    for index in range(n):
        icon = pictures.icon_picture(rng, split="heldout")
        messages = _about(rng, icon.pixels, dialogues.pick(rng, documents.NAME))
        yield Sample(id=str(index), messages=messages, target=dialogues.a(icon.name))


def draw(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 7))
    for index in range(n):
        wanted = pictures.scene(rng, split="heldout")
        order = dialogues.typed(dialogues.pick(rng, documents.DRAW).format(x=wanted.caption), rng)
        kind, drawing = _drawing(wanted)
        yield Sample(
            id=str(index),
            messages=(Message(role="user", parts=(Text(text=order),)),),
            target=wanted.caption,
            condition=kind,
            metadata={"drawing": drawing},
        )


def _drawing(wanted: Scene) -> tuple[str, Drawing]:
    """The kind of a scene, and what a picture of it must hold."""
    looks = tuple((item.colour, item.shape) for item in wanted.objects)
    relation = next((name for name in ("above", "left of") if f" {name} " in wanted.caption), "")
    if relation:
        return "two in relation", Drawing(looks, relation)
    kind = "one shape" if len(looks) == 1 else "several alike" if len(set(looks)) == 1 else "three shapes"
    return kind, Drawing(looks)


def tool_call(n: int) -> Iterator[Sample]:
    for condition, task in (("typed", "tool"), ("spoken", "tool-spoken")):
        for made in islice(_heldout(task, speakers="train"), n):
            prompt, answer = _first_turn(made)
            call = (answer.name, answer.arguments) if isinstance(answer, ToolCall) else None
            yield Sample(
                id=f"{condition} {made.seed}",
                messages=as_asked(prompt),
                target=" ".join(call) if call else "no call",
                condition=condition,
                metadata={"call": call},
            )


SAMPLES: dict[str, Callable[..., Iterator[Sample]]] = {
    make.__name__: make
    for make in (
        spoken_command,
        spoken_question,
        spoken_sums,
        typed_question,
        recall,
        say,
        scene_qa,
        word_reading,
        icons,
        draw,
        tool_call,
    )
}

# --- a run


def main(checkpoint: Path, out: Path, n: int = 100, tasks: Sequence[str] = (), judge_folder: Path = JUDGES) -> None:
    """Measures the checkpoint's skills (all, or `tasks`) on `n` samples of each condition, and writes the report.

    Raises ValueError for an unknown task, missing judges, or an `out` that holds results of another checkpoint.
    """
    from sensorium.engine.engine import OmniEngine
    from sensorium.tokenizers.release import Release

    if unknown := set(tasks) - SAMPLES.keys():
        raise ValueError(f"unknown task {', '.join(sorted(unknown))}; there are {', '.join(SAMPLES)}")
    torch.set_num_threads(1)
    codec = round_trip(Release.load(checkpoint).audio_tokenizer)
    measure(OmniEngine.load(checkpoint), codec, fingerprint(checkpoint), out, n, tasks, judge_folder)


def measure(
    engine: Engine,
    codec: Callable[[Audio], Audio] | None,
    weights: str,
    out: Path,
    n: int,
    tasks: Sequence[str],
    judge_folder: Path,
) -> report.Report:
    """Everything but loading: runs the tasks against an engine, and writes evals.json, evals.md and evals.png."""
    speech_judge, speech_record = judges.load(SpeechJudge, judge_folder / "speech")
    scene_judge, scene_record = judges.load(SceneJudge, judge_folder / "scene")
    about = {
        "model": engine.info.model,
        "weights": weights,
        "n": n,
        "seed": SEED,
        "judges": {"speech": speech_record, "scene": scene_record},
    }
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / "run.json", about)
    chosen = [task for task in every_task(speech_judge.transcribe, scene_judge.see) if task.name in (tasks or SAMPLES)]
    records = asyncio.run(_records(engine, codec, chosen, out, n))
    finished: report.Report = {"run": {**about, "finished": int(time.time()), "machine": machine()}, "tasks": records}
    report.save(finished, out / "evals.json")
    (out / "evals.md").write_text(report.markdown(finished), "utf-8")
    report.plot(finished, out / "evals.png")
    Console().print(report.table(finished))
    return finished


async def _records(
    engine: Engine, codec: Callable[[Audio], Audio] | None, tasks: Sequence[Task], out: Path, n: int
) -> list[report.TaskRecord]:
    records: list[report.TaskRecord] = []
    with Progress() as bar:
        for task in tasks:
            samples = list(say(n, codec) if task.name == "say" else SAMPLES[task.name](n))
            line = bar.add_task(task.name, total=len(samples))
            result = await run(
                task,
                samples,
                EngineSampler(engine),
                log=out / f"{task.name}.jsonl",
                seed=SEED,
                progress=lambda outcome, line=line: bar.advance(line),
            )
            bar.update(line, completed=len(samples))
            records.append(report.task_record(result))
    await engine.close()
    return records


def _claim(path: Path, about: dict[str, Any]) -> None:
    """Keeps replies of one checkpoint, n and pair of judges together."""
    if path.exists() and json.loads(path.read_text("utf-8")) != about:
        raise ValueError(f"{path.parent} holds results of another checkpoint, n or judge: choose another --out")
    path.write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def fingerprint(checkpoint: Path) -> str:
    """Tells checkpoints apart: the first 16 hex digits of a hash over the weights."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def machine() -> dict[str, Any]:
    """Where figures were measured: latency depends on it."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ())
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100, help="samples of each condition")
    parser.add_argument("--tasks", nargs="*", default=(), choices=tuple(SAMPLES), help="all by default")
    parser.add_argument("--judges", type=Path, default=JUDGES)
    options = parser.parse_args()
    main(options.checkpoint, options.out, options.n, options.tasks, options.judges)
