"""Two processes train as one would: the same updates on both ranks, gradients averaged, matrices shared out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
from torch import nn
from torch.multiprocessing.spawn import spawn

from sensorium.training import distributed
from sensorium.training.optim import Group, MuonAdamW

STEPS = 3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 4, bias=False), nn.Linear(4, 5))


def optimizer(model: nn.Sequential) -> MuonAdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    last = model[-1]
    assert isinstance(last, nn.Linear)
    return MuonAdamW(
        [
            Group(params=matrices, kind="muon", lr=0.1, weight_decay=0.1),
            Group(params=[last.bias], kind="adamw", lr=0.1, weight_decay=0.0),
        ]
    )


def batch(number: int) -> torch.Tensor:
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(number))


def train(numbers_of_step: list[list[int]]) -> nn.Sequential:
    """One step for each list of batch numbers, with the mean of their losses."""
    model = network()
    rule = optimizer(model)
    for numbers in numbers_of_step:
        torch.stack([model(batch(number)).square().mean() for number in numbers]).mean().backward()
        distributed.average_gradients(list(model.parameters()))
        rule.step()
        rule.zero_grad(set_to_none=True)
    return model


def rank_of_two(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.join("cpu")
    model = train([[step * 2 + rank] for step in range(STEPS)])
    torch.save(model.state_dict(), Path(folder, f"rank-{rank}.pt"))
    distributed.leave()


def test_two_ranks_make_the_steps_of_one(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    spawn(rank_of_two, (str(tmp_path), port), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    alone = train([[step * 2, step * 2 + 1] for step in range(STEPS)]).state_dict()
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=0.0, atol=0.01)  # Newton-Schulz steps are in bfloat16
        assert not torch.equal(network().state_dict()[name], tensor)
