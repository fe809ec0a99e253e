"""What is seen of pictures: their quarters, animations as films, pages, several at once; and what is refused."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pypdfium2
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image, Message, Text
from sensorium.server.animation_in import decode_animation
from sensorium.server.errors import APIError
from sensorium.server.film_in import FilmBounds
from sensorium.server.image_tokens import gpt_4o_image_tokens
from sensorium.server.pages_in import PAGE_SIDE, DocumentBounds, decode_pages
from tests.server.live import Live, envelope, live
from tests.server.samples import b64, data_url, image_part, picture, striped

BOUNDS = FilmBounds(max_pixels=100_000, max_s=30.0, max_frames=16)
DOCUMENT_BOUNDS = DocumentBounds(max_s=30.0, max_memory_bytes=512 * 2**20)


def animation(format: str, durations_ms: Sequence[int], size: tuple[int, int] = (8, 6)) -> bytes:
    """Every frame is a little redder than the one before it."""
    frames = [PIL.Image.new("RGB", size, (10 * index, 200, 0)) for index in range(len(durations_ms))]
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:], duration=list(durations_ms), lossless=True)
    return file.getvalue()


def pdf(num_pages: int, size: tuple[int, int] = (200, 100)) -> bytes:
    """Pages with a red lower half."""
    document = pypdfium2.PdfDocument.new()
    for _ in range(num_pages):
        page = document.new_page(*size)
        red = pypdfium2.raw.FPDFPageObj_CreateNewRect(0, 0, size[0], size[1] / 2)
        pypdfium2.raw.FPDFPageObj_SetFillColor(red, 255, 0, 0, 255)
        pypdfium2.raw.FPDFPath_SetDrawMode(red, pypdfium2.raw.FPDF_FILLMODE_WINDING, 0)
        pypdfium2.raw.FPDFPage_InsertObject(page, red)
        page.gen_content()
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def said_pdf(text: str) -> bytes:
    """A page of one line of text, written by hand: PDFium adds text only with a font."""
    content = f"BT /F1 18 Tf 20 50 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    ]
    return written_pdf(*objects)


def written_pdf(*objects: bytes) -> bytes:
    """Pages as whoever means harm writes them by hand."""
    numbered = b"".join(b"%d 0 obj\n%s\nendobj\n" % (index, body) for index, body in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + numbered + b"trailer << /Root 1 0 R >>\n%%EOF"


def locked_pdf(user: bytes) -> bytes:
    """A page of nothing in a file that opens with a password (RC4, 40 bits: the oldest way)."""
    filling = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")

    def rc4(key: bytes, data: bytes) -> bytes:
        state, j, out = list(range(256)), 0, bytearray()
        for i in range(256):
            j = (j + state[i] + key[i % len(key)]) % 256
            state[i], state[j] = state[j], state[i]
        i = j = 0
        for byte in data:
            i = (i + 1) % 256
            j = (j + state[i]) % 256
            state[i], state[j] = state[j], state[i]
            out.append(byte ^ state[(state[i] + state[j]) % 256])
        return bytes(out)

    owner = rc4(hashlib.md5((b"owner" + filling)[:32]).digest()[:5], (user + filling)[:32])
    rights, name = -44, bytes(16)
    key = hashlib.md5((user + filling)[:32] + owner + struct.pack("<i", rights) + name).digest()[:5]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] >>",
        b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P %d >>"
        % (owner.hex().encode(), rc4(key, filling).hex().encode(), rights),
    ]
    numbered = b"".join(b"%d 0 obj\n%s\nendobj\n" % (index, body) for index, body in enumerate(objects, start=1))
    ids = b"[<%s> <%s>]" % (name.hex().encode(), name.hex().encode())
    return b"%PDF-1.4\n" + numbered + b"trailer << /Root 1 0 R /Encrypt 4 0 R /ID " + ids + b" >>\n%%EOF"


def content_of(server: Live, content: list[dict[str, Any]]) -> str:
    answer = server.chat(content)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


# --- detail


def test_quarters_cover_the_picture():
    pixels = np.arange(0, 210, 2, dtype=np.uint8).reshape(7, 5, 3)
    quarters = Image(pixels=pixels, detail="high").quarters
    assert [quarter.pixels.shape for quarter in quarters] == [(4, 3, 3)] * 4
    assert np.array_equal(quarters[0].pixels, pixels[:4, :3])
    assert np.array_equal(quarters[3].pixels, pixels[3:, 2:])
    assert Image(pixels=pixels).quarters == Image(pixels=pixels, detail="low").quarters == ()


def test_plain_quarters_are_not_looked_at():
    pixels = np.random.default_rng(0).integers(200, 208, (64, 64, 3), dtype=np.uint8)  # as JPEG leaves one colour
    assert Image(pixels=pixels, detail="high").quarters == ()
    pixels[40, 8:20] = 180  # a faint line below, on the left
    (quarter,) = Image(pixels=pixels, detail="high").quarters
    assert np.array_equal(quarter.pixels, pixels[32:, :32])
    assert Image(pixels=pixels[:1, :1], detail="high").quarters == ()


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    [
        ((1024, 1024), "high", 765),
        ((2048, 4096), "high", 1105),
        ((512, 512), "auto", 255),
        ((4096, 8192), "low", 85),
        ((1, 1), "high", 255),
    ],
)
def test_the_documented_counts(size: tuple[int, int], detail: Any, tokens: int):
    shown = Image(pixels=np.zeros((2, 2, 3), np.uint8), detail=detail, given_size=size)
    assert gpt_4o_image_tokens([Message(role="user", parts=(shown,))]) == tokens
    assert gpt_4o_image_tokens([Message(role="assistant", parts=(shown,))]) == 0


@pytest.mark.parametrize(("detail", "views", "documented"), [("low", 1, 85), ("auto", 1, 765), ("high", 5, 765)])
def test_both_counts_are_told(server: Live, detail: str, views: int, documented: int):
    url = data_url(striped((1500, 1500)))
    details = server.chat([image_part(url, detail=detail)]).json()["usage"]["prompt_tokens_details"]
    assert (details["image_tokens"], details["gpt_4o_image_tokens"]) == (64 * views, documented)
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": detail}]}
    details = server.respond([item]).json()["usage"]["input_tokens_details"]
    assert (details["image_tokens"], details["gpt_4o_image_tokens"]) == (64 * views, documented)


@pytest.mark.parametrize(
    ("side", "shown", "views"),
    [
        (256, [(160, 20)], 2),  # all of it lies in one quarter
        (1500, [(1000, 100)], 2),
        (255, [(160, 20)], 1),  # small
        (256, [(160, 20), (20, 160)], 1),  # in two of them
        (256, [(120, 120)], 1),  # across all
        (256, [], 1),
    ],
)
def test_auto_looks_closer_where_that_helps(server: Live, side: int, shown: list[tuple[int, int]], views: int):
    page = PIL.Image.new("RGB", (side, side), "white")
    for left, top in shown:
        page.paste((0, 0, 0), (left, top, left + 40, top + 20))
    file = io.BytesIO()
    page.save(file, "PNG")
    told = server.chat([image_part(data_url(file.getvalue()))]).json()["usage"]["prompt_tokens_details"]
    assert told["image_tokens"] == 64 * views
    low = server.chat([image_part(data_url(file.getvalue()), detail="low")]).json()["usage"]["prompt_tokens_details"]
    assert low["image_tokens"] == 64


def test_quarters_count_as_they_are_looked_at():
    with live(FakeEngine(max_tokens=300)) as server:
        part = image_part(data_url(striped((40, 40))), detail="high")
        assert server.refusal([part]) == ("messages", "context_length_exceeded")
        plain = image_part(data_url(picture()), detail="high")
        assert server.chat([plain] * 4).status_code == 200


def test_what_is_too_much_to_see_is_refused_with_how_much_fits(server: Live):
    """In a chat and in Responses; by the edge where it is so much that not all is decoded, else by the engine."""
    still = data_url(picture())
    quartered = data_url(striped((40, 40)))
    book = {"type": "file", "file": {"file_data": b64(pdf(20)), "filename": "a.pdf"}}
    with live(FakeEngine(max_tokens=1000)) as server:
        for shown, told in (
            ([image_part(still)] * 20, "of 20 pictures at most 15 fit"),
            ([image_part(still)] * 15 + [{"type": "text", "text": "word " * 60}], "of 15 pictures 14 fit"),
            ([book], "of 20 pictures at most 15 fit"),
            ([image_part(still), book], "of 21 pictures at most 15 fit"),
            ([image_part(quartered, detail="high")] * 5, "of 5 pictures at most 3 fit"),
            (
                [image_part(quartered, detail="high")] * 3 + [{"type": "text", "text": "word " * 60}],
                "of 3 pictures 2 fit, in low detail 3",
            ),
        ):
            refused = server.chat(shown)
            assert envelope(refused) == ("messages", "context_length_exceeded")
            assert told in refused.json()["error"]["message"]
        shown = [{"type": "input_image", "image_url": still}] * 20
        refused = server.respond([{"role": "user", "content": shown}])
        assert envelope(refused) == ("input", "context_length_exceeded")
        assert "of 20 pictures at most 15 fit" in refused.json()["error"]["message"]
        assert server.chat([image_part(still)] * 15).status_code == 200


def test_auto_does_not_look_closer_where_others_then_do_not_fit():
    page = PIL.Image.new("RGB", (300, 300), "white")
    page.paste((0, 0, 0), (200, 20, 240, 40))
    file = io.BytesIO()
    page.save(file, "PNG")
    with live(FakeEngine(max_tokens=64 * 5)) as server:
        for number, views in ((2, 4), (3, 5), (5, 5)):
            answered = server.chat([image_part(data_url(file.getvalue()))] * number)
            assert answered.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 64 * views


# --- animations


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_a_film(server: Live, format: str):
    film = decode_animation(animation(format, [500] * 4), "here", BOUNDS)
    assert film.times_ms == tuple(250.0 * index for index in range(8))
    assert [round(int(frame.pixels[0, 0, 0]) / 10) for frame in film.frames] == [0, 0, 1, 1, 2, 2, 3, 3]
    said = content_of(server, [image_part(data_url(animation(format, [1000] * 4), f"image/{format.lower()}"))])
    assert said == "I got a film of 8 frames of 8 x 6 in 3.5 s."


def test_an_assistant_draws_nothing_that_moves(server: Live):
    moving = data_url(animation("PNG", [100] * 3))
    messages = [
        {"role": "user", "content": "draw it"},
        {"role": "assistant", "images": [image_part(moving)]},
        {"role": "user", "content": "and now"},
    ]
    refused = server.http.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": messages})
    assert envelope(refused) == ("messages[1].images[0].image_url", "invalid_image_format")
    drawn = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": moving.split(",")[1]}
    refused = server.respond([{"role": "user", "content": "x"}, drawn, {"role": "user", "content": "x"}])
    assert envelope(refused) == ("input[1].result", "invalid_image_format")


def test_a_long_animation_is_looked_at_less_often():
    film = decode_animation(animation("GIF", [1000] * 20), "here", BOUNDS)
    assert film.times_ms == tuple(4000.0 * index for index in range(5))
    hasty = decode_animation(animation("GIF", [0] * 20), "here", BOUNDS)  # browsers take a tenth of a second each
    assert hasty.times_ms[-1] == 1750.0


def test_an_endless_animation_is_refused():
    with pytest.raises(APIError) as caught:
        decode_animation(animation("GIF", [60_000] * 3), "here", BOUNDS)
    assert caught.value.code == "video_too_long"
    with live(max_film_s=2.0) as server:
        part = image_part(data_url(animation("GIF", [1000] * 3), "image/gif"))
        assert server.refusal([part]) == ("messages[0].content[0].image_url", "video_too_long")


def test_a_frame_larger_than_its_canvas_is_refused_before_it_takes_memory():
    data = bytearray(animation("GIF", [100] * 3))
    second = [at for at in range(len(data)) if data[at : at + 1] == b"," and data[at + 5 : at + 9] == b"\x08\0\x06\0"][
        1
    ]
    data[second + 5 : second + 9] = struct.pack("<HH", 12_000, 12_000)
    with pytest.raises(APIError) as caught:
        decode_animation(bytes(data), "here", BOUNDS)
    assert caught.value.code == "image_too_large"


# --- pages


def test_a_pdf_file_is_its_pages(server: Live):
    assert content_of(server, [{"type": "file", "file": {"file_data": b64(pdf(2)), "filename": "a.pdf"}}]) == (
        f'You said "a.pdf, page 1:\n\na.pdf, page 2:\n\n". I got a picture of {PAGE_SIDE} x {PAGE_SIDE // 2} '
        f"and a picture of {PAGE_SIDE} x {PAGE_SIDE // 2}."
    )
    parts = server.engine.requests[-1].messages[-1].parts
    assert [type(part) for part in parts] == [Text, Image] * 2
    assert isinstance(parts[1], Image)
    assert parts[1].pixels[10, 10].tolist() == [255, 255, 255]
    assert parts[1].pixels[-10, 10].tolist() == [255, 0, 0]


def test_what_a_page_says_is_read():
    (page,) = decode_pages(said_pdf("the lamp is red"), "here", lambda _: None, 100, DOCUMENT_BOUNDS)
    assert page.text == "the lamp is red"
    assert page.pixels.min() < 100
    with pytest.raises(APIError, match="more than the context"):
        decode_pages(said_pdf("the lamp is red"), "here", lambda _: None, 10, DOCUMENT_BOUNDS)


def test_a_locked_file_is_refused_and_so_is_one_without_pages(server: Live):
    """In this order: what was wrong with one file is not said of the next."""
    for data, said in ((locked_pdf(b"secret"), "locked with a password"), (pdf(0), "has no pages")):
        refused = server.chat([{"type": "file", "file": {"file_data": b64(data)}}])
        assert envelope(refused) == ("messages[0].content[0].file", "invalid_value")
        assert said in refused.json()["error"]["message"]
    # it only says what may not be done with it
    assert len(decode_pages(locked_pdf(b""), "here", lambda _: None, 100, DOCUMENT_BOUNDS)) == 1


@pytest.mark.parametrize("brand", [b"heic", b"avif"])
def test_pictures_in_the_container_of_films_are_no_films(server: Live, brand: bytes):
    data = b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(100) + b"\xff"
    file = {"type": "file", "file": {"file_data": b64(data)}}
    assert server.refusal([file]) == ("messages[0].content[0].file", "unsupported_value")
    shown = image_part(data_url(data, "image/heic"))
    assert server.refusal([shown]) == ("messages[0].content[0].image_url", "invalid_image_format")


def test_a_page_of_any_size_takes_no_more_memory():
    (page,) = decode_pages(pdf(1, (200_000, 10)), "here", lambda _: None, 100, DOCUMENT_BOUNDS)
    assert page.pixels.shape[1] <= PAGE_SIDE + 1


def test_too_many_pages_are_refused_before_one_is_drawn():
    with live(max_images=3) as server:
        part = {"type": "file", "file": {"file_data": b64(pdf(4))}}
        assert server.refusal([part]) == ("messages[0].content[0].file", "array_above_max_length")
    with live(FakeEngine(max_tokens=150)) as server:
        part = {"type": "file", "file": {"file_data": b64(pdf(3))}}
        assert server.refusal([part]) == ("messages", "context_length_exceeded")


# --- several


def test_pictures_keep_their_places_among_words(server: Live):
    parts = [
        {"type": "text", "text": "which is larger: "},
        image_part(data_url(picture(size=(10, 10)))),
        {"type": "text", "text": "or"},
        image_part(data_url(picture(size=(20, 20)))),
    ]
    content_of(server, parts)
    seen = server.engine.requests[-1].messages[-1].parts
    assert [type(part) for part in seen] == [Text, Image, Text, Image]
    assert content_of(server, [image_part(data_url(picture()))] * 32).count("a picture of 8 x 6") == 32
