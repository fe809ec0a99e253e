"""The one training loop: tokenizers, the network, later fine-tunes. A variant is an `Objective`, never a copy.

batch = batches(number)          a pure function of the number, so a resumed run sees the same batches
loss, parts = objective(batch)
backward, average over ranks, clip, optimizer.step(schedule(step))
metrics, checkpoint
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from sensorium.training import checkpoint, distributed, metrics
from sensorium.training.config import TrainConfig, precision_of
from sensorium.training.optim import MuonAdamW
from sensorium.training.schedule import multiplier

Batch = TypeVar("Batch", contravariant=True)


class Objective(Protocol, Generic[Batch]):
    """What is minimised: a module and its loss on a batch, with the parts that are worth a curve."""

    @property
    def module(self) -> nn.Module: ...

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...

    def num_items(self, batch: Batch) -> int:
        """Positions, samples or pictures: what throughput counts."""
        ...


def fit(
    objective: Objective[Batch],
    batches: Callable[[int], Batch],
    optimizer: MuonAdamW,
    config: TrainConfig,
    out: Path,
    *,
    title: str,
    held_out: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Trains `objective.module` to `config.num_steps`, going on from `out` if a checkpoint lies there.

    At each step rank r of n takes batch number step x n + r; rank 0 keeps the books.
    `held_out` measures the module on data it does not train on; its figures join the metrics.
    """
    out.mkdir(parents=True, exist_ok=True)
    module = objective.module.to(config.device).train()
    rank, num_ranks = distributed.rank(), distributed.num_ranks()
    in_bf16 = (config.precision or precision_of(config.device)) == "bf16"
    first_step, spent_s = checkpoint.load(out, module=module, optimizer=optimizer, device=config.device)
    listed = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parameters = [parameter for parameter in listed if parameter.requires_grad]
    start = saved = time.monotonic() - spent_s
    saved += spent_s
    sums = _Means()
    with _progress(title, config.num_steps, first_step, is_shown=rank == 0) as report:
        numbers = range(first_step * num_ranks + rank, config.num_steps * num_ranks, num_ranks)
        for step, batch in enumerate(_prefetched(batches, numbers), first_step):
            torch.manual_seed(hash((config.seed, step, rank)))  # chance is a function of the step too
            with torch.autocast(config.device.split(":")[0], torch.bfloat16, enabled=in_bf16):
                loss, parts = objective(batch)
            loss.backward()
            distributed.average_gradients(parameters)
            if config.max_grad_norm is not None:
                parts["grad_norm"] = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            scale = multiplier(
                step, num_steps=config.num_steps, warmup_steps=config.warmup_steps, warmdown_share=config.warmdown_share
            )
            optimizer.step(scale)
            optimizer.zero_grad(set_to_none=True)
            sums.add(loss, parts, objective.num_items(batch) * num_ranks)
            done = step + 1
            if rank != 0:
                continue
            last = done == config.num_steps
            if last or done % config.log_every_steps == 0:
                record = sums.record(step=done, seconds=time.monotonic() - start, lr=scale)
                if held_out is not None and (last or done % config.held_out_every_steps == 0):
                    record |= _in_evaluation(module, held_out)
                metrics.append(out, record)
                report(done, record)
            if last or time.monotonic() - saved > config.checkpoint_every_s:
                seconds = time.monotonic() - start
                checkpoint.save(out, step=done, module=module, optimizer=optimizer, seconds=seconds)
                saved = time.monotonic()
    if rank == 0:
        with contextlib.suppress(ImportError):
            metrics.plot(out)
    distributed.barrier()
    module.eval()


def _in_evaluation(module: nn.Module, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    module.eval()
    with torch.no_grad():
        figures = measure()
    module.train()
    return figures


class _Means:
    """Running means of the loss parts since the last log line."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._items = 0
        self._since = time.monotonic()

    def add(self, loss: Tensor, parts: dict[str, Tensor], items: int) -> None:
        for name, value in {"loss": loss, **parts}.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + float(value.detach()), count + 1)
        self._items += items

    def record(self, *, step: int, seconds: float, lr: float) -> dict[str, float]:
        now = time.monotonic()
        record: dict[str, float] = {"step": step, "seconds": round(seconds, 1), "lr": round(lr, 4)}
        record["items_per_s"] = round(self._items / (now - self._since), 1)
        record |= {name: round(total / count, 5) for name, (total, count) in self._sums.items()}
        self._sums, self._items, self._since = {}, 0, now
        return record


def _prefetched(batches: Callable[[int], Batch], numbers: range) -> Iterator[Batch]:  # pyright: ignore[reportGeneralTypeIssues]
    """The batches of those numbers, the next one being made while this one trains."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for number in numbers:
            batch = coming.result() if coming is not None else batches(number)
            coming = pool.submit(batches, number + numbers.step) if number + numbers.step < numbers.stop else None
            yield batch


@contextlib.contextmanager
def _progress(
    title: str, total: int, done: int, *, is_shown: bool
) -> Iterator[Callable[[int, dict[str, float]], None]]:
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, refresh_per_second=1, disable=not is_shown) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")

        def report(step: int, record: dict[str, float]) -> None:
            shown = [f"{name} {value:.3f}" for name, value in record.items() if name not in ("step", "seconds", "lr")]
            bar.update(task, completed=step, note=" ".join(shown[:6]))

        yield report
