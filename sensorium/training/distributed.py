"""Several processes, one run: each takes its own batches, gradients are averaged. `torchrun` starts the processes.

On a CPU this is not for clusters only: one process per core with one thread each trains a small network at twice the
rate of one process with two threads, since much of a small step does not split over threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import distributed, nn

PATIENCE = timedelta(hours=6)  # how long ranks wait for one that makes a corpus


def join(device: str) -> None:
    """Joins the run that torchrun started; without one, does nothing."""
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)


def leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def num_ranks() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def barrier() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """One all-reduce of all gradients. A parameter that this rank's batch did not touch counts as zero."""
    if num_ranks() == 1:
        return
    flat = torch.cat(
        [
            (parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)).reshape(-1)
            for parameter in parameters
        ]
    )
    distributed.all_reduce(flat)
    flat /= num_ranks()
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
