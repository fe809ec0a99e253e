"""Measures a checkpoint on held-out data: every skill, with its chance level and standard error.

    python -m recipes.evals --out runs/evals/tiny
    python -m recipes.evals --checkpoint runs/nano/release --out runs/evals/nano --tasks say draw --n 20

Samples are the held-out documents of `sensorium.data.generators`, judged by the judges that travel with the package or
others of `recipes.judges`. What comes out: evals.json (read by `sensorium.evals.card`), evals.md, evals.png, and a line
of JSON for every reply in <task>.jsonl. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.nn import functional as F

from recipes.samples import LEARNED_FROM, REAL, SAMPLES, SEED, say
from sensorium.cli import RELEASED
from sensorium.data.sources import data_root
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
from sensorium.evals.judges import IconJudge, SceneJudge, SpeechJudge, StyleJudge
from sensorium.evals.run import run
from sensorium.evals.scorers import Listener, Namer
from sensorium.evals.task import Modality, Reply, Task
from sensorium.evals.tasks import every_task
from sensorium.messages import Audio, Image, Message, ToolCall
from sensorium.tokenizers.audio import AudioDecoderStream, AudioEncoderStream, AudioTokenizer
from sensorium.tokenizers.release import taught_tasks

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
        lag = codec.config.hop  # of the decoder's overlap
        samples = F.pad(torch.from_numpy(audio.waveform), (0, lag))
        frames = torch.cat([encoder.push(samples).codes[0], encoder.flush().codes[0]])
        waveform = torch.cat((decoder.push(frames), decoder.flush()))[lag : len(samples)]
        return Audio(waveform=waveform.numpy(), sample_rate_hz=audio.sample_rate_hz)

    return through


# --- a run


def main(
    checkpoint: Path, out: Path, n: int = 100, tasks: Sequence[str] = (), judge_folder: Path = judges.SHIPPED
) -> None:
    """Measures the checkpoint's skills (`tasks`, or all it was taught and there is material for) on `n` samples of
    each condition, and writes the report.

    Raises ValueError for an unknown task, missing judges, or an `out` that holds results of another checkpoint.
    """
    from sensorium.engine.engine import OmniEngine
    from sensorium.tokenizers.release import Release

    if unknown := set(tasks) - SAMPLES.keys():
        raise ValueError(f"unknown task {', '.join(sorted(unknown))}; there are {', '.join(SAMPLES)}")
    tasks = tasks or _with_material(taught(checkpoint))
    torch.set_num_threads(1)
    codec = round_trip(Release.load(checkpoint).audio_tokenizer)
    measure(OmniEngine.load(checkpoint), codec, fingerprint(checkpoint), out, n, tasks, judge_folder)


def taught(checkpoint: Path) -> tuple[str, ...]:
    """The tasks that the checkpoint was trained for, by the documents of its recipe; all of them if it names none."""
    known = taught_tasks(checkpoint)
    return tuple(name for name in SAMPLES if known is None or set(LEARNED_FROM.get(name, ())) <= known)


def _with_material(tasks: Sequence[str]) -> tuple[str, ...]:
    if "SENSORIUM_DATA" in os.environ:
        return tuple(tasks)
    if recorded := [name for name in tasks if name in REAL]:
        print(f"SENSORIUM_DATA names no folder of recorded sets, so these are left out: {', '.join(recorded)}")
    return tuple(name for name in tasks if name not in REAL)


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
    names = tasks or tuple(SAMPLES)
    every, records = tasks_judged_by(judge_folder, names)
    about = {
        "model": engine.info.model,
        "weights": weights,
        "n": n,
        "seed": SEED,
        "judges": records,
    }
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / "run.json", about)
    chosen = [task for task in every if task.name in names]
    measured = asyncio.run(_records(engine, codec, chosen, out, n))
    finished: report.Report = {"run": {**about, "finished": int(time.time()), "machine": machine()}, "tasks": measured}
    report.save(finished, out / "evals.json")
    (out / "evals.md").write_text(report.markdown(finished), "utf-8")
    report.plot(finished, out / "evals.png")
    Console().print(report.table(finished))
    return finished


def tasks_judged_by(folder: Path, names: Sequence[str]) -> tuple[tuple[Task, ...], dict[str, Any]]:
    """All tasks with the judges of a folder, and the judges' records.

    Raises ValueError if a judge lacks that is needed, or the folder of recorded sets.
    """
    if set(names) & set(REAL):
        data_root()  # hours before it is needed
    speech_judge, speech_record = judges.load(SpeechJudge, folder / "speech")
    scene_judge, scene_record = judges.load(SceneJudge, folder / "scene")
    records = {"speech": speech_record, "scene": scene_record}
    manner: Listener = _nobody
    icon: Namer = _nobody
    if (folder / "style.json").exists() or {"say_styled", "whispered"} & set(names):
        style_judge, records["style"] = judges.load(StyleJudge, folder / "style")
        manner = style_judge.manner
    if (folder / "icon.json").exists() or {"draw_icon", "draw_emoji"} & set(names):
        icon_judge, records["icon"] = judges.load(IconJudge, folder / "icon")
        icon = icon_judge.name
    return every_task(speech_judge.transcribe, scene_judge.see, manner, icon), records


def _nobody(medium: Audio | Image) -> str:
    """Networks that were not taught to speak in styles, or to draw icons and emoji, need no judge of them."""
    raise AssertionError("no judge of it was loaded")


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
    """Keeps replies of one checkpoint, n and set of judges together."""
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
    parser.add_argument("--checkpoint", type=Path, default=RELEASED, help="by default the one that `sensorium` serves")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100, help="samples of each condition")
    parser.add_argument("--tasks", nargs="*", default=(), choices=tuple(SAMPLES), help="by default what it was taught")
    parser.add_argument("--judges", type=Path, default=judges.SHIPPED)
    options = parser.parse_args()
    try:
        main(options.checkpoint, options.out, options.n, options.tasks, options.judges)
    except ValueError as error:
        parser.error(str(error))
