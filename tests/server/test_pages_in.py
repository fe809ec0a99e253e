"""PDF files that mean harm: their bounds end them, or they end themselves, and nobody else notices."""

from __future__ import annotations

import os
import signal
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image
from sensorium.server import page_drawing, pages_in
from sensorium.server.errors import APIError
from sensorium.server.pages_in import DocumentBounds, decode_pages
from tests.server.live import Live, envelope, eventually, live
from tests.server.samples import audio_part, b64, data_url, image_part, picture, wav
from tests.server.test_seeing import DOCUMENT_BOUNDS, pdf, said_pdf, written_pdf

IN_PROC = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's children in /proc")


def stream(content: bytes, keys: bytes = b"") -> bytes:
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(content), keys, content)


def page_of(content: bytes, resources: bytes, *objects: bytes) -> bytes:
    return written_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R /Resources << %s >> >>" % resources,
        content,
        *objects,
    )


def endless_pdf() -> bytes:
    """Forms that show the next one twenty times, eight deep: 2.5 kB that take weeks to draw."""
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 200 100] /Resources << /XObject << /F %d 0 R >> >> "
    forms = [stream(b"/F Do\n" * 20, form % (number + 1)) for number in range(5, 12)]
    return page_of(stream(b"/F Do"), b"/XObject << /F 5 0 R >>", *forms, stream(b"0 0 9 9 re f\n" * 20, form % 13))


def swelling_pdf(mebibytes: int) -> bytes:
    """A content of spaces, a thousand times as long as the file."""
    packed = zlib.compressobj()
    spaces = b"".join(packed.compress(b" " * 2**20) for _ in range(mebibytes)) + packed.flush()
    return page_of(stream(spaces, b"/Filter /FlateDecode "), b"")


def nested_pdf(depth: int) -> bytes:
    return page_of(stream(b"[" * depth + b"]" * depth), b"/A " + b"[" * depth + b"]" * depth)


def refused(data: bytes, bounds: DocumentBounds = DOCUMENT_BOUNDS) -> str | None:
    with pytest.raises(APIError) as caught:
        decode_pages(data, "here", lambda _: None, 1000, bounds)
    assert (caught.value.status, caught.value.param) == (400, "here")
    return caught.value.code


def file_part(data: bytes) -> dict[str, object]:
    return {"type": "file", "file": {"file_data": b64(data), "filename": "a.pdf"}}


def drawing() -> list[int]:
    """The processes that draw for this one."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            if page_drawing.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def test_what_takes_too_long_to_draw_is_ended_by_its_computing_time():
    assert refused(endless_pdf(), DocumentBounds(max_s=1.0, max_memory_bytes=2**30)) == "image_too_large"


def test_what_takes_too_long_to_draw_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages_in, "_WALL_PER_CPU", 0.05)
    assert refused(endless_pdf(), DocumentBounds(max_s=30.0, max_memory_bytes=2**30)) == "image_too_large"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS bounds no process's memory")
def test_what_takes_too_much_memory_to_draw_is_ended():
    assert refused(swelling_pdf(100), DocumentBounds(max_s=30.0, max_memory_bytes=64 * 2**20)) == "invalid_value"
    assert len(decode_pages(swelling_pdf(1), "here", lambda _: None, 1000, DOCUMENT_BOUNDS)) == 1


def test_deeply_nested_objects_are_drawn_or_refused():
    (page,) = decode_pages(nested_pdf(100_000), "here", lambda _: None, 1000, DOCUMENT_BOUNDS)
    assert page.pixels.min() == 255


def test_pages_are_drawn_without_the_servers_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    spy = tmp_path / "spy.py"
    spy.write_text(f"import os, sys; open({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ)))")
    monkeypatch.setenv("SENSORIUM_API_KEYS", "sk-secret")
    monkeypatch.setattr(page_drawing, "__file__", str(spy))
    assert refused(pdf(1)) == "invalid_value"
    assert "secret" not in (tmp_path / "seen").read_text()


@pytest.mark.parametrize(
    "told",
    [
        b"",
        page_drawing.NUM_PAGES.pack(2),
        page_drawing.NUM_PAGES.pack(1) + page_drawing.PAGE.pack(2**32 - 1, 9, 9, 27),
        page_drawing.NUM_PAGES.pack(1) + page_drawing.PAGE.pack(0, 2**16, 2**16, 3 * 2**16),
        page_drawing.NUM_PAGES.pack(1) + page_drawing.PAGE.pack(0, 9, 9, 2**32 - 1),
        page_drawing.NUM_PAGES.pack(1) + page_drawing.PAGE.pack(0, 9, 9, 28) + bytes(100),
    ],
)
def test_what_a_broken_process_tells_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: bytes):
    """It is ended at once, though it would go on telling."""
    liar = tmp_path / "liar.py"
    liar.write_text(f"import sys; sys.stdout.buffer.write({told!r}); sys.stdout.flush(); sys.stdin.buffer.read()")
    monkeypatch.setattr(page_drawing, "__file__", str(liar))
    assert refused(pdf(1)) == "invalid_value"


@pytest.mark.parametrize("detail", ["low", "high", "auto"])
def test_pages_are_looked_at_as_closely_as_is_asked(server: Live, detail: str):
    part = {"type": "input_file", "filename": "a.pdf", "file_data": b64(said_pdf("the lamp")), "detail": detail}
    usage = server.respond([{"role": "user", "content": [part]}]).json()["usage"]
    [page] = [part for part in server.engine.requests[-1].messages[-1].parts if isinstance(part, Image)]
    assert page.detail == detail
    assert bool(page.quarters) == (detail == "high")
    assert usage["input_tokens_details"]["image_tokens"] == 64 * (1 + len(page.quarters))


@IN_PROC
def test_who_hangs_up_leaves_no_process_behind():
    with live(max_document_s=60.0) as server:
        messages = [{"role": "user", "content": [file_part(endless_pdf())]}]
        with pytest.raises(Exception, match="timed out"):
            server.http.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": messages}, timeout=2.0)
        eventually(lambda: not drawing())


@IN_PROC
def test_others_are_answered_while_a_file_is_drawn_and_when_its_process_dies():
    """One decode at a time: it is not the PDF file's."""
    with live(max_concurrent_decodes=1) as server, ThreadPoolExecutor(1) as client:
        hostile = client.submit(server.chat, [file_part(endless_pdf())])
        eventually(lambda: bool(drawing()))
        shown = [image_part(data_url(picture())), audio_part(wav())]
        assert server.chat(shown).status_code == 200
        assert not hostile.done()
        for pid in drawing():
            os.kill(pid, signal.SIGKILL)
        assert envelope(hostile.result()) == ("messages[0].content[0].file", "image_too_large")
        assert server.chat([file_part(said_pdf("the lamp"))]).status_code == 200
        assert drawing() == []


@IN_PROC
@pytest.mark.parametrize(
    ("engine", "options", "code"),
    [
        (FakeEngine, {"max_images": 1}, "array_above_max_length"),
        (lambda: FakeEngine(max_tokens=150), {}, "context_length_exceeded"),
    ],
)
def test_what_is_refused_is_drawn_no_further(engine: Callable[[], FakeEngine], options: dict[str, Any], code: str):
    with live(engine(), **options) as server:
        assert server.refusal([file_part(pdf(40))])[1] == code
        assert drawing() == []


def test_an_operator_sets_the_bounds(server: Live):
    with live(max_document_s=1) as short:
        assert short.refusal([file_part(endless_pdf())]) == ("messages[0].content[0].file", "image_too_large")
    with live(max_document_memory_bytes=16 * 2**20) as small:
        assert small.refusal([file_part(pdf(1))]) == ("messages[0].content[0].file", "invalid_value")
    assert server.chat([file_part(pdf(1))]).status_code == 200
