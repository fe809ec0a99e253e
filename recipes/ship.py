"""From the folder of a finished run to the weights that are shipped, in two steps with a look between them.

    python -m recipes.ship --run runs/tiny
    python -m recipes.ship --run runs/tiny --release

The first writes the weights in 8 bits (to runs/tiny/shipping), measures them on everything they were taught, and prints
each figure beside that of the weights shipped now: minutes to hours. The second puts them in their place: weights,
card, the README's table, the page of samples. Both go on where they were stopped.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from recipes import card, evals, sheet, speakers
from recipes.average import same_weights
from sensorium.evals import judges, report
from sensorium.evals.report import Report, Row
from sensorium.tokenizers.release import SPEAKERS, Release

SHIPPED = Path("sensorium/checkpoints/tiny")
SAMPLES_PAGE = Path("docs/samples/tiny.html")
README = Path("README.md")


def measure(run: Path, shipped: Path, judge_folder: Path, n: int) -> None:
    """The first step. Raises ValueError for a run without a release."""
    if not (run / "release" / "config.json").is_file():
        raise ValueError(f"{run} holds no release yet")
    shipping = run / "shipping"
    if not (shipping / "training.json").exists():  # the last that is written
        shrunk(run / "release", shipping, shipped)
    evals.main(shipping, run / "evals", n, evals.taught(shipping), judge_folder)
    Console().print(compared(report.load(shipped / "evals.json"), report.load(run / "evals" / "evals.json")))


def shrunk(release: Path, out: Path, shipped: Path) -> None:
    """Writes a release with its network in 8 bits, by the name of the shipped one, and which directions of its features
    tell speakers apart: those that are known of the shipped one, if both hear alike."""
    loaded, known = Release.load(release), Release.load(shipped)
    replace(loaded, config=replace(loaded.config, name=known.config.name)).save(out, int8=True)
    hears_alike = same_weights(loaded.audio_tokenizer.encoder, known.audio_tokenizer.encoder)
    if hears_alike and known.speakers is not None:
        known.speakers.save(out / SPEAKERS)
    elif loaded.speakers is None:
        speakers.fit(loaded.audio_tokenizer, speakers.NUM_SPEAKERS).save(out / SPEAKERS)
    shutil.copyfile(release / "training.json", out / "training.json")


class Compared(NamedTuple):
    task: str
    condition: str
    metric: str
    before: Row | None
    after: Row
    is_error: bool

    @property
    def standard_errors(self) -> float | None:
        """By how many of the difference's the later figure is better, where both and their errors are known."""
        if self.before is None:
            return None
        (old, old_error), (new, new_error) = ((row["mean"], row["stderr"]) for row in (self.before, self.after))
        if old is None or new is None or old_error is None or new_error is None or not (old_error or new_error):
            return None
        return (new - old) * (-1.0 if self.is_error else 1.0) / (old_error**2 + new_error**2) ** 0.5


def pairs(before: Report, after: Report) -> Iterator[Compared]:
    """Every figure of the later report, with the same one of the earlier."""
    known = {(task["name"], row["condition"], row["metric"]): row for task in before["tasks"] for row in task["rows"]}
    for task in after["tasks"]:
        for row in task["rows"]:
            at = (task["name"], row["condition"], row["metric"])
            yield Compared(*at, known.get(at), row, row["metric"].endswith("wer"))


def compared(before: Report, after: Report) -> Table:
    """Figures side by side; what is two standard errors better is green, what is as much worse red."""
    drawn = Table("task", "condition", "metric", "shipped", "this run", "standard errors")
    for pair in pairs(before, after):
        gain = pair.standard_errors
        colour = "" if gain is None or abs(gain) < 2.0 else "green" if gain > 0.0 else "red"
        old = "-" if pair.before is None else report.with_error(pair.before)
        figures = (old, report.with_error(pair.after), "" if gain is None else f"{gain:+.1f}")
        drawn.add_row(pair.task, pair.condition, pair.metric.replace("_", " "), *figures, style=colour)
    return drawn


def release(run: Path, shipped: Path, judge_folder: Path, machine: str | None, *, page: Path, samples: Path) -> None:
    """The second step. Raises ValueError where the first was not finished."""
    shipping, measured = run / "shipping", run / "evals" / "evals.json"
    if not measured.is_file():
        raise ValueError(f"{run} has not been measured: leave --release out first")
    for path in (*shipping.glob("*.safetensors"), shipping / "config.json", shipping / "text.json"):
        shutil.copyfile(path, shipped / path.name)
    card.main(shipped, run=run, evals=measured, machine=machine, page=page)
    sheet.main(shipped, samples, judge_folder=judge_folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="the folder of a finished training run")
    parser.add_argument("--release", action="store_true", help="put what was measured in its place")
    parser.add_argument("--judges", type=Path, default=judges.SHIPPED)
    parser.add_argument("--n", type=int, default=100, help="samples of each condition")
    parser.add_argument("--machine", help="what it was trained on, if not on this machine")
    options = parser.parse_args()
    try:
        if options.release:
            release(options.run, SHIPPED, options.judges, options.machine, page=README, samples=SAMPLES_PAGE)
        else:
            measure(options.run, SHIPPED, options.judges, options.n)
    except ValueError as error:
        parser.error(str(error))
