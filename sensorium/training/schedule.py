"""Learning-rate multiplier as a pure function of the step: warm up, hold, then fall linearly (trapezoid)."""

from __future__ import annotations


def multiplier(step: int, *, num_steps: int, warmup_steps: int, warmdown_share: float, final: float = 0.02) -> float:
    """In [final, 1]. The last `warmdown_share` of the run falls from 1 to `final`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    warmdown_steps = max(int(num_steps * warmdown_share), 1)
    left = (num_steps - step) / warmdown_steps
    return min(1.0, final + (1.0 - final) * left)
