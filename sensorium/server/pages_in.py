"""PDF files off the wire: each page as its text and as a picture, as gpt-4o is given them too.

A page is drawn at the size that it is kept in, so that what it says of its own size takes no memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pypdfium2

from sensorium.server.errors import APIError, invalid

PAGE_SIDE = 1024  # pixels of the longer one
_LOCK = threading.Lock()  # PDFium is not made for several threads


class Page(NamedTuple):
    text: str
    pixels: np.ndarray  # (H, W, 3) uint8


def decode_pages(data: bytes, param: str, allow: Callable[[int], None], max_chars: int) -> list[Page]:
    """All pages. `allow` is told how many there are before one is drawn, and raises if they are too many; so does this
    where they have more than `max_chars` characters. Raises APIError naming `param`."""
    with _LOCK:
        try:
            with pypdfium2.PdfDocument(data) as document:
                allow(len(document))
                pages: list[Page] = []
                for number in range(len(document)):
                    pages.append(_page(document, number))
                    max_chars -= len(pages[-1].text)
                    if max_chars < 0:
                        raise invalid("The text of the PDF file takes more than the context holds.", param)
                return pages
        except APIError:
            raise
        except pypdfium2.PdfiumError as error:
            # of a file without pages PDFium gives the error of the one before it
            if "password" in str(error).lower() and b"/Encrypt" in data:
                raise invalid("The PDF file is locked with a password.", param) from None
            raise _damaged(param) from error
        except Exception as error:
            raise _damaged(param) from error


def _page(document: pypdfium2.PdfDocument, number: int) -> Page:
    page = document[number]
    width, height = page.get_size()  # points
    picture = page.render(scale=PAGE_SIDE / max(width, height, 1.0), rev_byteorder=True, no_smoothtext=False)
    pixels = picture.to_numpy()[..., :3].copy()  # to RGB
    text = page.get_textpage().get_text_bounded().replace("\r\n", "\n").strip()
    return Page(text, pixels)


def _damaged(param: str) -> APIError:
    return invalid("The PDF file is damaged, or has no pages, and cannot be read.", param)
