"""Several processes, one run: each takes its own batches, gradients are averaged. `torchrun` starts the processes.

On a CPU this is not for clusters only: one process per core with one thread each trains a small network at twice the
rate of one process with two threads, since much of a small step does not split over threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

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


def summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum over ranks of each tensor, by one all-reduce. All ranks hand in the same shapes and dtype."""
    if num_ranks() == 1 or not tensors:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """One all-reduce of all gradients. A parameter that this rank's batch did not touch counts as zero."""
    if num_ranks() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    for parameter, gradient in zip(parameters, summed(gradients), strict=True):
        parameter.grad = gradient.div_(num_ranks())
