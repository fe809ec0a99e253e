"""What a run tells: a line of JSON per logged step, a progress bar, and a plot of the curves."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def append(folder: Path, record: dict[str, float]) -> None:
    with (folder / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(folder: Path) -> list[dict[str, float]]:
    """All records; after a resume, a step that was done twice counts once, the later time."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return sorted({int(record["step"]): record for record in records}.values(), key=lambda record: record["step"])


_ITEMS = {  # folder of a stage -> what it counts
    "audio": "samples of sound",
    "image": "pictures",
    "image-sharpened": "pictures",
    "network": "positions",
    "audio-decoder": "samples of sound",
    "audio-adversarial": "samples of sound",
    "image-decoder": "pictures",
}


def stages(run: Path) -> list[dict[str, Any]]:
    """What each stage of a run did, in their order: its steps, what it saw, and for how long."""
    return [_stage(run / name, name, item) for name, item in _ITEMS.items() if read(run / name)]


def _stage(folder: Path, name: str, item: str) -> dict[str, Any]:
    records = read(folder)
    seconds = [0.0, *(record["seconds"] for record in records)]
    spans_s = [max(0.0, end - start) for start, end in pairwise(seconds)]
    items = sum(record["items_per_s"] * span_s for record, span_s in zip(records, spans_s, strict=True))
    return {
        "name": name,
        "num_steps": int(records[-1]["step"]),
        "items": round(items),
        "item": item,
        "wall_time_s": seconds[-1],
    }


def plot(folder: Path) -> Path | None:
    """One panel per loss, against the step. Needs matplotlib (the `train` extra); returns the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read(folder)
    if len(records) < 2:
        return None
    names = [name for name in records[-1] if name not in ("step", "seconds", "lr", "items_per_s")]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        points = [(record["step"], record[name]) for record in records if name in record]
        axes.plot([step for step, _ in points], [value for _, value in points], linewidth=1)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    path = folder / "metrics.png"
    figure.savefig(path, dpi=110)
    return path
