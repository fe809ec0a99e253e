from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sensorium.engine.fake import FakeEngine
from tests.server.calls import Phone
from tests.server.live import Live, eventually, live

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}


def ask(words: str, **fields) -> dict:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": words}], **fields}


def cancelled(server: Live) -> int:
    eventually(lambda: server.engine.num_active == 0)
    return server.engine.num_cancelled


@pytest.mark.parametrize("fields", [{}, SPOKEN])
def test_hanging_up_in_mid_stream_stops_the_engine(fields: dict):
    with live(FakeEngine(delay_ms=20)) as server:
        with server.http.stream(
            "POST", "/v1/chat/completions", json=ask("word " * 500, stream=True, **fields)
        ) as response:
            lines = response.iter_lines()
            for _ in range(6):
                next(lines)
            assert server.engine.num_active == 1
        assert cancelled(server) == 1
        server.engine.delay_ms = 0
        assert server.chat("next").json()["choices"][0]["message"]["content"] == 'You said "next".'
        eventually(lambda: 'status="499"' in server.http.get("/metrics").text)
        assert server.engine.num_cancelled == 1


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_before_the_first_word_stops_the_engine(stream: bool):
    with live() as server:
        server.engine.delay_ms = 60_000
        with pytest.raises(Exception, match="timed out"):
            server.http.post("/v1/chat/completions", json=ask("hi", stream=stream), timeout=0.3)
        assert cancelled(server) == 1
        server.engine.delay_ms = 0
        assert server.chat("next", stream=stream).status_code == 200


def test_a_finished_answer_is_not_a_hang_up(server: Live):
    before = server.engine.num_cancelled
    for stream in (False, True):
        server.chat("hi", stream=stream)
    assert server.engine.num_cancelled == before


@contextmanager
def deaf_client(url: str, request: dict) -> Iterator[socket.socket]:
    """Sends a request, reads the first bytes of its answer, and then neither reads on nor hangs up."""
    body = json.dumps(request).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((urlsplit(url).hostname, urlsplit(url).port))
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        assert client.recv(64).startswith(b"HTTP/1.1 200")
        yield client


@pytest.mark.parametrize("fields", [{}, SPOKEN])
def test_a_client_that_stops_reading_frees_its_place(fields: dict):
    """The words are so long that they fill every buffer between the engine and the client."""
    with live(max_concurrent_requests=1, send_timeout_s=0.5) as server:
        with deaf_client(server.url, ask(f"{'word' * 500_000} " * 8, stream=True, **fields)):
            eventually(lambda: server.engine.num_active == 1 and server.chat("hi").status_code == 503)
            assert cancelled(server) == 1
            eventually(lambda: server.chat("next").status_code == 200)
            eventually(lambda: 'status="499"' in server.http.get("/metrics").text)


def deaf_phone(address: str) -> Phone:
    """A call whose client holds no more than it must of what it does not read, and takes it uncompressed."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    line.connect((urlsplit(address).hostname, urlsplit(address).port))
    url = f"{address.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"
    return Phone(connect(url, sock=line, max_size=None, max_queue=1, compression=None))


def flood(call: Phone) -> None:
    """Has more told than all buffers hold."""
    content = [{"type": "input_text", "text": f"{'word' * 500_000} " * 7}]
    asked = {"type": "message", "role": "user", "content": content}
    call.say("response.create", response={"output_modalities": ["text"], "input": [asked]})


def read_out(call: Phone) -> None:
    while True:
        assert b"session_expired" not in bytes(call.socket.recv(timeout=5, decode=False))


def is_told_that_it_read_nothing(call: Phone) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        read_out(call)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "unread" in closed.value.rcvd.reason


def test_a_call_whose_client_stops_reading_ends():
    with live(max_calls=1, send_timeout_s=0.5) as server:
        call = deaf_phone(server.url)
        session_id = call.next()["session"]["id"]
        flood(call)
        eventually(lambda: server.engine.num_active == 1)
        assert cancelled(server) == 1
        url = f"{server.url.replace('http', 'ws')}/v1/realtime"
        with pytest.raises(InvalidStatus) as refused, connect(f"{url}?session_id={session_id}"):
            pass
        assert refused.value.response.status_code == 404  # nothing is kept of it
        with connect(f"{url}?model=gpt-realtime") as next_call:  # its place is free
            assert "session.created" in str(next_call.recv(timeout=5))
        is_told_that_it_read_nothing(call)


def test_an_answer_may_take_longer_than_it_may_stay_unread():
    with live(send_timeout_s=0.5) as server:
        server.engine.delay_ms = 100
        assert server.chat("word " * 8, stream=True).text.endswith("data: [DONE]\n\n")
