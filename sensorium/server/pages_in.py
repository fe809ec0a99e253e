"""PDF files off the wire: each page as its text and as a picture, as gpt-4o is given them too.

A small file may take minutes or gigabytes to draw, or break what draws it. So each is drawn by a process of its own
(page_drawing.py), which ends at its bounds and takes nothing along. A page is drawn at the size that it is kept in, so
that what it says of its own size takes no memory, and is read only if it is within bounds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from sensorium.server import page_drawing
from sensorium.server.errors import APIError, invalid
from sensorium.server.page_drawing import LOCKED, NUM_PAGES, PAGE

PAGE_SIDE = 1024  # pixels of the longer one

_WALL_PER_CPU = 2  # a busy machine takes so much longer than the work does
_MOST_CHAR_BYTES, _PIXEL_BYTES, _MOST_PADDING = 4, 3, 3
_ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")  # what Python is found by: keys are not


@dataclass(frozen=True, kw_only=True)
class DocumentBounds:
    max_s: float  # of computing, in whole seconds
    max_memory_bytes: int  # besides the file itself


class Page(NamedTuple):
    text: str
    pixels: np.ndarray  # (H, W, 3) uint8


class _Ended(Exception):
    """The process is gone before it has told everything."""


def decode_pages(
    data: bytes,
    param: str,
    allow: Callable[[int], None],
    max_chars: int,
    bounds: DocumentBounds,
    *,
    began: Callable[[Callable[[], None]], None] = lambda end: None,
) -> list[Page]:
    """All pages. `allow` is told how many there are before one is taken in, and raises if they are too many; so does
    this where they have more than `max_chars` characters. Blocks, for twice `max_s` at the most: call it in a thread.
    `began` is given what ends it.

    Raises APIError naming `param`.
    """
    with _drawing(data, bounds) as process:
        began(process.kill)
        try:
            assert process.stdout is not None
            pages: list[Page] = []
            (num_pages,) = NUM_PAGES.unpack(_read(process.stdout, NUM_PAGES.size))
            allow(num_pages)
            for _ in range(num_pages):
                pages.append(_page(process.stdout, param, max_chars))
                max_chars -= len(pages[-1].text)
            return pages
        except _Ended:
            raise _refusal(process.wait(), param, bounds) from None


@contextmanager
def _drawing(data: bytes, bounds: DocumentBounds) -> Iterator[subprocess.Popen[bytes]]:
    """The process, with the file already in it. It is gone afterwards, whatever it was doing."""
    cpu_s = ceil(bounds.max_s)
    limits = (len(data), PAGE_SIDE, len(data) + bounds.max_memory_bytes, cpu_s)
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(page_drawing.__file__)), *map(str, limits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    too_late = threading.Timer(_WALL_PER_CPU * cpu_s, process.kill)  # whoever reads from it then finds the end
    too_late.start()
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(data)
        yield process
    finally:
        too_late.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def _page(told: IO[bytes], param: str, max_chars: int) -> Page:
    num_text_bytes, width, height, row_bytes = PAGE.unpack(_read(told, PAGE.size))
    if num_text_bytes > _MOST_CHAR_BYTES * max_chars:
        raise _too_long(param)
    padding = row_bytes - _PIXEL_BYTES * width
    if not (0 < max(width, height) <= PAGE_SIDE + 1 and 0 <= padding <= _MOST_PADDING):
        raise _damaged(param)  # it wrote over what draws it
    text = _read(told, num_text_bytes).decode(errors="replace")
    if len(text) > max_chars:
        raise _too_long(param)
    rows = np.frombuffer(_read(told, height * row_bytes), np.uint8).reshape(height, row_bytes)
    return Page(text, rows[:, : row_bytes - padding].reshape(height, width, _PIXEL_BYTES).copy())


def _read(told: IO[bytes], num_bytes: int) -> bytes:
    data = told.read(num_bytes)
    if len(data) < num_bytes:
        raise _Ended
    return data


def _too_long(param: str) -> APIError:
    return invalid("The text of the PDF file takes more than the context holds.", param)


def _refusal(status: int, param: str, bounds: DocumentBounds) -> APIError:
    """By how the process ended: PDFium ends it too where it is refused memory."""
    if status == LOCKED:
        return invalid("The PDF file is locked with a password.", param)
    if status > 0:
        return _damaged(param)
    most = f"{ceil(bounds.max_s)} s or {bounds.max_memory_bytes // 2**20} MiB"
    code = "image_too_large" if status in (-signal.SIGXCPU, -signal.SIGKILL) else "invalid_value"
    return invalid(f"The PDF file is damaged, or takes more than {most} to draw.", param, code)


def _damaged(param: str) -> APIError:
    return invalid("The PDF file is damaged, or has no pages, and cannot be read.", param)
