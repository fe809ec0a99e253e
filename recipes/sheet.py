"""A page of samples that nobody chose: held-out cases of every skill, drawn by lot, with their sound and pictures.

    python -m recipes.sheet --checkpoint sensorium/checkpoints/nano --out docs/samples/nano.html

The page is one file: it holds its pictures as PNG and its sound as Ogg Opus. The cases are drawn from those that
`recipes.evals` asks, one of each condition in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from PIL import Image as Pillow
from rich.progress import track

from recipes.evals import EngineSampler, fingerprint, tasks_judged_by, taught
from recipes.samples import SAMPLES, SEED, say
from sensorium.engine.request import Engine
from sensorium.evals import judges
from sensorium.evals.task import Reply, Sample, Task, Unscored
from sensorium.messages import Audio, Image, Part, Text, ToolCall, Video

OPUS_RATE_HZ = 16_000
SHOWN_SIZE = 128  # pixels a side

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1b1a;
       background: #fbfaf8 }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem } p.about { color: #6b6761; margin: 0 0 .6rem }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid #e4e0d9; padding: .45rem .5rem;
       vertical-align: top; width: 33% } td.verdict { width: 6rem; color: #6b6761 }
tr.right td.verdict { color: #1f7a3d } tr.wrong td.verdict { color: #a8321f }
.film { display: flex; flex-wrap: wrap; gap: 3px } .film img { width: 64px; height: 64px }
img { image-rendering: pixelated; border-radius: 4px; display: block } audio { height: 28px; width: 15rem }
svg { display: block; width: 15rem; height: 28px } svg path { stroke: #4a6fa5; fill: none }
pre { white-space: pre-wrap; margin: 0; font-size: .8rem; color: #6b6761; max-height: 7rem; overflow: auto }
@media (prefers-color-scheme: dark) { body { background: #1b1a19; color: #eae7e2 } td { border-color: #3a3835 } }
"""


async def page(engine: Engine, tasks: Sequence[Task], weights: str, n: int) -> str:
    """The whole page, for `n` cases of each task, spread over its conditions."""
    sampler = EngineSampler(engine)
    sections: list[str] = []
    for task in track(tasks, description="samples"):
        rows: list[str] = []
        for sample in drawn(task.name, n):
            reply = await sampler.sample(sample.messages, modality=sample.modality, voice=sample.voice, seed=SEED)
            rows.append(row(task, sample, reply))
        heading = f'<h2 id="{task.name}">{task.name.replace("_", " ")}</h2><p class="about">{escape(task.title)}</p>'
        sections.append(f"{heading}\n<table>{''.join(rows)}</table>")
    await engine.close()
    links = " · ".join(f'<a href="#{task.name}">{task.name.replace("_", " ")}</a>' for task in tasks)
    about = (
        f"{n} held-out cases of every skill of <b>{escape(engine.info.model)}</b> (weights {weights}), drawn by lot, "
        "none left out: what is asked, what comes back, what is right. Judged as <code>recipes.evals</code> does."
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>samples</title>'
        f"<style>{_STYLE}</style><h1>Samples that nobody chose</h1><p>{about}</p><p>{links}</p>\n"
        + "\n".join(sections)
        + "</html>\n"
    )


def drawn(name: str, n: int) -> list[Sample]:
    """Samples of each condition in turn, `n` in all, drawn by lot from four times as many."""
    made = list(say(4 * n, None) if name == "say" else SAMPLES[name](4 * n))
    rng = np.random.default_rng((SEED, zlib.crc32(name.encode())))
    by_condition: dict[str, list[Sample]] = {sample.condition: [] for sample in made}
    for index in rng.permutation(len(made)).tolist():
        by_condition[made[index].condition].append(made[index])
    turns = itertools.zip_longest(*by_condition.values())
    return [sample for turn in turns for sample in turn if sample is not None][:n]


def row(task: Task, sample: Sample, reply: Reply) -> str:
    scored = task.score(sample, reply)
    if isinstance(scored, Unscored):
        verdict, kind = scored.reason, ""
    else:
        value = scored[task.metric].value
        kind = "right" if value == (0 if task.is_error else 1) else "wrong"
        verdict = f"{100 * value:.0f} % wrong" if task.is_error and kind == "wrong" else kind
    asked = "".join(shown(part) for message in sample.messages for part in message.parts)
    heard = "".join(f"<div>heard: {escape(text)}</div>" for text in reply.heard)
    parts = [*([Text(text=reply.words)] if reply.words else []), *([reply.audio] if reply.audio else [])]
    answered = "".join(map(shown, [*parts, *reply.images, *reply.tool_calls]))
    wanted = "" if verdict == "right" else f"<div>right: {escape(sample.target)}</div>"
    condition = "" if sample.condition == "all" else f"<div>{escape(sample.condition)}</div>"
    return (
        f'<tr class="{kind}"><td>{asked}</td><td>{heard}{answered or "nothing"}</td>'
        f'<td class="verdict">{escape(verdict)}{condition}{wanted}</td></tr>\n'
    )


def shown(part: Part) -> str:
    """One part of a message as HTML."""
    if isinstance(part, Audio):
        return f'{waveform(part)}<audio controls preload="none" src="data:audio/ogg;base64,{opus(part)}"></audio>'
    if isinstance(part, Image):
        return f'<img width="{SHOWN_SIZE}" height="{SHOWN_SIZE}" alt="" src="data:image/png;base64,{png(part)}">'
    if isinstance(part, ToolCall):
        return f"<div><code>{escape(part.name)}({escape(part.arguments)})</code></div>"
    if isinstance(part, Video):
        frames = "".join(map(shown, part.frames))
        return f'<div class="film">{frames}</div>{shown(part.sound) if part.sound else ""}'
    return f"<pre>{escape(part.text)}</pre>" if "\n" in part.text else f"<div>{escape(part.text)}</div>"


def waveform(audio: Audio, bins: int = 150) -> str:
    """A line for each bin, from its lowest sample to its highest."""
    lines: list[str] = []
    for index, piece in enumerate(np.array_split(audio.waveform, bins)):
        low, high = (float(np.clip(14 - 14 * edge, 0, 28)) for edge in (piece.max(initial=0), piece.min(initial=0)))
        lines.append(f"M{index * 2} {low:.1f}V{high + 0.5:.1f}")
    return f'<svg viewBox="0 0 {2 * bins} 28" preserveAspectRatio="none"><path d="{"".join(lines)}"/></svg>'


def opus(audio: Audio) -> str:
    sound = io.BytesIO()
    samples = soxr.resample(audio.waveform, audio.sample_rate_hz, OPUS_RATE_HZ)
    soundfile.write(sound, samples, OPUS_RATE_HZ, format="OGG", subtype="OPUS")
    return base64.b64encode(sound.getvalue()).decode()


def png(image: Image) -> str:
    picture = io.BytesIO()
    Pillow.fromarray(image.pixels).save(picture, format="PNG", optimize=True)
    return base64.b64encode(picture.getvalue()).decode()


def main(
    checkpoint: Path, out: Path, *, n: int = 20, tasks: Sequence[str] = (), judge_folder: Path = judges.SHIPPED
) -> None:
    """Raises ValueError for a missing judge."""
    from sensorium.engine.engine import OmniEngine

    torch.set_num_threads(1)
    names = tasks or taught(checkpoint)
    every, _ = tasks_judged_by(judge_folder, names)
    engine = OmniEngine.load(checkpoint)
    made = asyncio.run(page(engine, [task for task in every if task.name in names], fingerprint(checkpoint), n))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(made, "utf-8")
    print(f"{out}: {len(made) / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=20, help="cases of each skill")
    parser.add_argument("--tasks", nargs="*", default=(), choices=tuple(SAMPLES), help="by default what it was taught")
    parser.add_argument("--judges", type=Path, default=judges.SHIPPED)
    options = parser.parse_args()
    main(options.checkpoint, options.out, n=options.n, tasks=options.tasks, judge_folder=options.judges)
