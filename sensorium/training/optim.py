"""Muon for matrices, AdamW for the rest, in one optimizer.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, found by a few Newton-Schulz
steps; stacked matrices (K, n, m) are handled as a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sensorium.training import distributed
from sensorium.training.config import precision_of

# Quintic coefficients of the Muon write-up: fast rather than exact, singular values end within about 0.7 .. 1.2.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Group(TypedDict):
    params: list[nn.Parameter]
    kind: Literal["muon", "adamw"]
    lr: float
    weight_decay: float


class MuonAdamW(Optimizer):
    """One class for both rules; each group's `lr` is its peak, `step(scale)` multiplies it."""

    def __init__(
        self, groups: Iterable[Group], *, momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.95)
    ) -> None:
        super().__init__([dict(group) for group in groups], {"momentum": momentum, "betas": betas, "eps": 1e-10})

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["kind"] == "muon":
                self._muon(parameters, group, group["lr"] * scale)
                continue
            for parameter in parameters:
                self._adamw(parameter, parameter.grad, self.state[parameter], group, group["lr"] * scale)

    def _muon(self, parameters: Sequence[Tensor], group: dict[str, Any], lr: float) -> None:
        """Ranks share the matrices: each orthogonalizes every n-th, then all hold all updates."""
        updates: list[Tensor] = []
        for index, parameter in enumerate(parameters):
            state, grad = self.state[parameter], parameter.grad
            assert grad is not None
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].lerp_(grad, 1 - group["momentum"])
            if index % distributed.num_ranks() == distributed.rank():
                nesterov = grad.lerp(momentum, group["momentum"])
                updates.append(orthogonalize(_as_matrix(nesterov)).view_as(parameter))
            else:
                updates.append(torch.zeros_like(parameter, dtype=_dtype_of(parameter)))
        for parameter, update in zip(parameters, distributed.summed(updates), strict=True):
            rows, columns = _as_matrix(parameter).shape[-2:]
            if group["weight_decay"]:  # cautious: decay only where it agrees with the update
                agrees = (update * parameter) >= 0
                parameter.mul_(1 - lr * group["weight_decay"] * agrees)
            parameter.add_(update, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _adamw(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], lr: float) -> None:
        first_beta, second_beta = group["betas"]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        mean = state["mean"].lerp_(grad, 1 - first_beta)
        square = state["square"].lerp_(grad.square(), 1 - second_beta)
        mean_scale = 1 - first_beta ** state["step"]
        square_scale = 1 - second_beta ** state["step"]
        if group["weight_decay"]:
            parameter.mul_(1 - lr * group["weight_decay"])
        denominator = (square / square_scale).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, denominator, value=-lr / mean_scale)


def _as_matrix(tensor: Tensor) -> Tensor:
    """A convolution's kernel (out, in, height, width) is a matrix of `out` rows; stacked matrices (K, n, m) stay."""
    return tensor.flatten(1) if tensor.ndim == 4 else tensor


def _dtype_of(tensor: Tensor) -> torch.dtype:
    return torch.bfloat16 if precision_of(tensor.device) == "bf16" else torch.float32


def orthogonalize(matrix: Tensor, *, steps: int = 5) -> Tensor:
    """(..., n, m) -> about U V^T of its singular value decomposition, in `_dtype_of` its device.

    In bfloat16 where that is fast, which loses nothing (the same cosine of 0.985 to U V^T) and takes a third of the
    time on a CPU with bfloat16 products: 62 ms against 177 ms for all matrices of nano. Sums are taken within the
    products, which takes a third to a half off again (1024 x 256: 5.6 -> 3.1 ms).
    """
    a, b, c = _NEWTON_SCHULZ
    x = (matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(_dtype_of(matrix))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    product_onto = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = product_onto(gram, gram, gram, beta=b, alpha=c)
        x = product_onto(x, polynomial, x, beta=a)
    return x.mT.contiguous() if tall else x


def network_groups(
    model: nn.Module, *, matrix_lr: float, embedding_lr: float, head_lr: float, scalar_lr: float, weight_decay: float
) -> list[Group]:
    """Transformer parameters by role: matrices (Muon), embedding tables, output heads, scalars."""
    matrices, tables, heads, scalars = [], [], [], []
    for name, parameter in model.named_parameters():
        if name.startswith(("embed.symbol", "embed.residual", "embed.patch")) or "value_embedding" in name:
            tables.append(parameter)
        elif name.endswith(("depth_head.first.weight", "depth_head.previous.weight")):
            tables.append(parameter)
        elif name.endswith(("symbol_head.projection.weight", "depth_head.logits")):
            heads.append(parameter)
        elif parameter.ndim >= 2 and "value_gate" not in name:
            matrices.append(parameter)
        else:
            scalars.append(parameter)
    return [
        Group(params=matrices, kind="muon", lr=matrix_lr, weight_decay=weight_decay),
        Group(params=tables, kind="adamw", lr=embedding_lr, weight_decay=0.0),
        Group(params=heads, kind="adamw", lr=head_lr, weight_decay=0.0),
        Group(params=scalars, kind="adamw", lr=scalar_lr, weight_decay=0.0),
    ]


def tokenizer_groups(
    module: nn.Module, *, lr: float, matrix_lr: float = 0.0, weight_decay: float = 0.01
) -> list[Group]:
    """The matrices and kernels inside residual blocks by Muon at `matrix_lr`, if it is given; the rest by AdamW."""
    blocks, matrices, others = [], [], []
    for name, parameter in module.named_parameters():
        if matrix_lr and name.endswith((".first.weight", ".second.weight", ".up.weight", ".down.weight")):
            blocks.append(parameter)
        else:
            (matrices if parameter.ndim >= 2 else others).append(parameter)
    return [
        Group(params=blocks, kind="muon", lr=matrix_lr, weight_decay=weight_decay),
        Group(params=matrices, kind="adamw", lr=lr, weight_decay=weight_decay),
        Group(params=others, kind="adamw", lr=lr, weight_decay=0.0),
    ]
