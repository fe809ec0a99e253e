"""The loop: losses fall, a killed run goes on with the same batches to the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sensorium.training import checkpoint, metrics
from sensorium.training.config import TrainConfig
from sensorium.training.loop import fit
from sensorium.training.optim import MuonAdamW, tokenizer_groups


class Regression:
    """y = W x by a linear layer: small, and its optimum is known."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.module = nn.Linear(4, 2)
        self.batches_seen: list[float] = []

    def __call__(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.batches_seen.append(float(batch.sum()))
        target = batch[:, :2] - batch[:, 2:]
        loss = (self.module(batch).float() - target).square().mean()
        return loss, {"error": loss.sqrt()}

    def num_items(self, batch: Tensor) -> int:
        return len(batch)


def batches(step: int) -> Tensor:
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(step))


def run(out: Path, config: TrainConfig, objective: Regression) -> Regression:
    optimizer = MuonAdamW(tokenizer_groups(objective.module, lr=0.05))
    fit(objective, batches, optimizer, config, out, title="test")
    return objective


def test_the_loss_falls_and_is_recorded(tmp_path: Path) -> None:
    run(tmp_path, TrainConfig(num_steps=60, warmup_steps=5, precision="fp32"), Regression())
    records = metrics.read(tmp_path)
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50, 60]
    assert records[-1]["loss"] < 0.1 * records[0]["loss"]
    assert (tmp_path / "metrics.png").exists()


def test_a_killed_run_resumes_with_the_same_batches_to_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(num_steps=30, warmup_steps=5, precision="fp32", checkpoint_every_s=0.0)
    whole = run(tmp_path / "whole", config, Regression())

    class Killed(Exception):
        pass

    def dying(step: int) -> Tensor:
        if step == 17:
            raise Killed
        return batches(step)

    broken = Regression()
    optimizer = MuonAdamW(tokenizer_groups(broken.module, lr=0.05))
    with pytest.raises(Killed):
        fit(broken, dying, optimizer, config, tmp_path / "broken", title="test")
    resumed = run(tmp_path / "broken", config, Regression())

    assert resumed.batches_seen[0] == whole.batches_seen[len(whole.batches_seen) - len(resumed.batches_seen)]
    for ours, theirs in zip(resumed.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_half_written_checkpoint_is_never_read(tmp_path: Path) -> None:
    objective = Regression()
    optimizer = MuonAdamW(tokenizer_groups(objective.module, lr=0.05))
    checkpoint.save(tmp_path, step=7, module=objective.module, optimizer=optimizer, seconds=1.5)
    (tmp_path / (checkpoint.FILE_NAME + ".part")).write_bytes(b"cut off")
    assert checkpoint.load(tmp_path, module=objective.module, optimizer=optimizer, device="cpu") == (7, 1.5)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    config = TrainConfig(num_steps=10, warmup_steps=2, precision="fp32")
    run(tmp_path, config, Regression())
    assert run(tmp_path, config, Regression()).batches_seen == []
