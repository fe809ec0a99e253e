from __future__ import annotations

import pytest

from sensorium.engine.fake import FakeEngine
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
