"""Draws the pages of a PDF file: a program of its own, which may take so much memory and time and no more.

pages_in.py starts it for every file, by its path: with nothing of ours, and without numpy, it is there in a moment. The
file comes in on stdin; out on stdout go the number of pages and then each page, as `PAGE`, its text and its rows.
"""

from __future__ import annotations

import ctypes
import struct
import sys

NUM_PAGES = struct.Struct("<I")
PAGE = struct.Struct("<4I")  # bytes of text in UTF-8; width, height and bytes of a row, which is RGB and may be padded
LOCKED = 3  # exit status of a file that opens with a password


def _bound(memory_bytes: int, cpu_s: int) -> None:
    import resource  # Unix alone has it, and the server imports this file too

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # asked to end, and then ended
    if sys.platform != "darwin":  # which refuses to bound it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _draw(num_bytes: int, longer_side: int) -> None:
    import pypdfium2  # not in the server

    data = (ctypes.c_ubyte * num_bytes)()
    with open(sys.stdin.fileno(), "rb") as file:
        file.readinto(data)
    out = sys.stdout.buffer
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        sys.exit(LOCKED if "password" in str(error).lower() else 1)
    out.write(NUM_PAGES.pack(len(document)))
    out.flush()
    for number in range(len(document)):
        page = document[number]
        text = page.get_textpage().get_text_bounded().replace("\r\n", "\n").strip().encode(errors="replace")
        scale = longer_side / max(*page.get_size(), 1.0)  # points
        drawn = page.render(scale=scale, rev_byteorder=True, no_smoothtext=False)
        out.write(PAGE.pack(len(text), drawn.width, drawn.height, drawn.stride))
        out.write(text)
        out.write(drawn.buffer)
        page.close()
    out.flush()


if __name__ == "__main__":
    _num_bytes, _longer_side, _memory_bytes, _cpu_s = map(int, sys.argv[1:])
    _bound(_memory_bytes, _cpu_s)
    _draw(_num_bytes, _longer_side)
