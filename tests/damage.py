"""Files that are damaged in every way that a few lines can think of, for as long as there is time.

The cases are the same in every run, as the seed is: a machine that has less time comes less far among them. By hand:

    FUZZ_SECONDS=600 FUZZ_SEED=7 python -m pytest tests/server/test_damaged_files.py      ten minutes for each decoder
    FUZZ_SEED=7 FUZZ_CASE=1234 python -m pytest tests/server/test_damaged_files.py -k pdf   a case that failed

The file that is being read lies in pytest's folder for the test, where it stays if a decoder takes the process along.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import numpy as np

_SECONDS_VARIABLE, _SEED_VARIABLE, _CASE_VARIABLE = "FUZZ_SECONDS", "FUZZ_SEED", "FUZZ_CASE"
_USUAL_S, _USUAL_CASES = 3.0, 600  # for each decoder, whichever is reached first
_LEAST_CASES = 20  # even on a machine that has no time

_TELLING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER_BYTES = 400  # where most of what a decoder believes is written


def read_damaged(seeds: Mapping[str, bytes], read: Callable[[str, bytes], object], folder: Path) -> int:
    """Has `read` look at damaged copies of `seeds`, by name, within the time there is: how many it was.

    Whatever it raises is told with what is needed to see it again.
    """
    seed = int(os.environ.get(_SEED_VARIABLE, "0"))
    seconds = os.environ.get(_SECONDS_VARIABLE)
    most = None if seconds else _USUAL_CASES
    deadline = time.monotonic() + float(seconds or _USUAL_S)
    only = os.environ.get(_CASE_VARIABLE)
    names = sorted(seeds)
    for number in [int(only)] if only else count():
        if not only and (number == most or (number >= _LEAST_CASES and time.monotonic() > deadline)):
            return number
        rng = np.random.default_rng((seed, number))
        name = names[int(rng.integers(len(names)))]
        data = damaged(rng, seeds[name], tuple(seeds.values()))
        (folder / "damaged").write_bytes(data)
        try:
            read(name, data)
        except Exception as error:
            again = f"{_SEED_VARIABLE}={seed} {_CASE_VARIABLE}={number}"
            raise AssertionError(f"{name}, {again}, the file is {folder / 'damaged'}") from error
    return 1


def damaged(rng: np.random.Generator, data: bytes, others: tuple[bytes, ...]) -> bytes:
    """A file with one to six things wrong. Pieces may come from `others`."""
    for _ in range(int(rng.integers(1, 7))):
        data = _WAYS[int(rng.integers(len(_WAYS)))](rng, data, others)
    return data


def _place(rng: np.random.Generator, data: bytes) -> int:
    """Somewhere in a file, half of the time in its header."""
    size = len(data) if rng.random() < 0.5 else min(len(data), _HEADER_BYTES)
    return int(rng.integers(size + 1))


def _stretch(rng: np.random.Generator, data: bytes) -> tuple[int, int]:
    start = _place(rng, data)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 10)))


def _flip(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes(byte ^ 1 << int(rng.integers(8)) for byte in data[at : at + 1]) + data[at + 1 :]


def _noise(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    start, end = _stretch(rng, data)
    return data[:start] + rng.bytes(end - start) + data[end:]


def _number(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    """A size or a count that tells too much, or nothing."""
    at, width = _place(rng, data), int(rng.choice((1, 2, 4, 8)))
    value = int(rng.choice(_TELLING)) & (1 << 8 * width) - 1
    order = "little" if rng.random() < 0.5 else "big"
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def _cut(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    return data[: _place(rng, data)]


def _left_out(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    start, end = _stretch(rng, data)
    return data[:start] + data[end:]


def _twice(rng: np.random.Generator, data: bytes, _: tuple[bytes, ...]) -> bytes:
    start, end = _stretch(rng, data)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _of_another(rng: np.random.Generator, data: bytes, others: tuple[bytes, ...]) -> bytes:
    """A file that goes on as another, or has one behind it."""
    other = others[int(rng.integers(len(others)))]
    at = _place(rng, data) if rng.random() < 0.7 else len(data)
    return data[:at] + other[_place(rng, other) :]


_WAYS = (_flip, _flip, _noise, _number, _number, _cut, _left_out, _twice, _of_another)
