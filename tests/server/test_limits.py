"""Limits at the edge: what clients are told, and that nothing is taken for work that was not done."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai
import pytest
from sqlalchemy import text
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sensorium.platform.database import Database
from sensorium.platform.limits import Caller, LimitReached, LimitRule, Limits
from sensorium.platform.shared_limits import InPostgres
from tests.server.calls import phone
from tests.server.live import Live, eventually, live
from tests.serving import serve

GO_DURATION = r"(\d+h)?(\d+m)?(\d+(\.\d+)?(s|ms))"


def allowance(response) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {name.removeprefix(prefix): value for name, value in response.headers.items() if name.startswith(prefix)}


def test_the_headers_are_there_without_a_limit(server: Live):
    for response in (server.chat("hi"), server.chat("hi", stream=True)):
        told = allowance(response)
        assert set(told) == {
            f"{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
        }
        assert told["limit-requests"] == told["remaining-requests"] == str(2**31 - 1)
        assert told["reset-tokens"] == "0s"
    assert allowance(server.http.get("/v1/models")) == {}


def test_too_many_requests():
    with live(limits=(LimitRule(requests_per_minute=2),)) as server:
        told = allowance(server.chat("hi"))
        assert (told["limit-requests"], told["remaining-requests"]) == ("2", "1")
        assert re.fullmatch(GO_DURATION, told["reset-requests"])
        assert server.chat("hi", stream=True).status_code == 200
        response = server.chat("hi", model="gpt-4o-mini")
        assert response.status_code == 429
        error = response.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert "Please try again in" in error["message"]
        assert 0 < int(response.headers["retry-after-ms"]) <= 30_000
        assert int(response.headers["retry-after"]) == -(-int(response.headers["retry-after-ms"]) // 1000)
        assert "x-should-retry" not in response.headers
        assert allowance(response)["remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError):
            server.official().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])


def test_another_name_is_no_way_around_a_limit():
    with live(limits=(LimitRule(models=("gpt-4o",), requests_per_minute=1),)) as server:
        assert server.chat("hi", model="gpt-4o-2024-08-06").status_code == 200
        for name in ("gpt-4o", server.engine.info.model, "gpt-4o-mini", "chatgpt-4o-latest"):
            assert server.chat("hi", model=name).status_code == 429


def test_requests_for_sound_are_refused_in_the_same_form():
    clip = (Path(__file__).parents[2] / "docs" / "media" / "question.wav").read_bytes()

    def speak(server: Live) -> httpx2.Response:
        asked = {"model": "tts-1", "input": "one two three", "voice": "alloy", "response_format": "pcm"}
        return server.http.post("/v1/audio/speech", json=asked)

    def write_down(server: Live) -> httpx2.Response:
        file = {"file": ("a.wav", clip)}
        return server.http.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=file)

    for ask in (speak, write_down):
        with live(limits=(LimitRule(requests_per_minute=1, audio_s_per_minute=600),)) as server:
            told = allowance(ask(server))
            assert (told["limit-requests"], told["remaining-requests"]) == ("1", "0")
            response = ask(server)
            error = response.json()["error"]
            assert (response.status_code, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
            assert allowance(response)["remaining-requests"] == "0"
            assert 0 < int(response.headers["retry-after-ms"]) <= 60_000
            assert int(response.headers["retry-after"]) == -(-int(response.headers["retry-after-ms"]) // 1000)
        with live(limits=(LimitRule(audio_s_per_minute=1),)) as server:
            server.http.post("/v1/audio/speech", json={"model": "tts-1", "input": "one two " * 20, "voice": "alloy"})
            response = ask(server)
            assert response.status_code == 429
            assert response.json()["error"]["type"] == "requests"
            assert "seconds of sound" in response.json()["error"]["message"]


def test_tokens_are_reserved_and_given_back():
    with live(limits=(LimitRule(tokens_per_minute=1000),)) as server:
        response = server.chat("one two three", max_completion_tokens=600)
        assert int(allowance(response)["remaining-tokens"]) < 400
        used = response.json()["usage"]["total_tokens"]
        response = server.chat("one two three", max_completion_tokens=600)
        assert response.status_code == 200, "600 tokens are reserved, few are used"
        assert used < 100
        too_large = server.chat("hi", max_completion_tokens=1001)
        assert too_large.status_code == 429
        assert too_large.json()["error"]["type"] == "tokens"
        assert too_large.headers["x-should-retry"] == "false"
        assert "retry-after" not in too_large.headers


def test_work_that_fails_or_is_refused_takes_nothing():
    rules = (LimitRule(requests_per_minute=1, tokens_per_minute=1000),)
    with live(limits=rules) as server:
        server.engine.error = RuntimeError("no")
        for stream in (False, True, False):
            assert server.chat("hi", max_completion_tokens=900, stream=stream).status_code == 500
    with live(limits=rules) as server:
        for _ in range(3):
            assert server.chat("hi", temperature=9).status_code == 400
        assert server.chat("hi").status_code == 200
        assert server.chat("hi").status_code == 429


def test_who_hangs_up_is_given_back_what_was_not_written():
    with live(limits=(LimitRule(tokens_per_minute=1000),)) as server:
        server.engine.delay_ms = 20
        request = {"model": "gpt-4o", "stream": True, "max_completion_tokens": 900}
        request["messages"] = [{"role": "user", "content": "word " * 50}]
        with server.http.stream("POST", "/v1/chat/completions", json=request) as response:
            lines = response.iter_lines()
            for _ in range(12):
                next(lines)
            assert server.chat("hi", max_completion_tokens=900).status_code == 429, "the rest is still to come"
        eventually(lambda: server.engine.num_active == 0)
        server.engine.delay_ms = 0
        eventually(lambda: server.chat("hi", max_completion_tokens=800).status_code == 200)


def test_sound_is_counted():
    with live(limits=(LimitRule(audio_s_per_minute=3),)) as server:
        spoken = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
        words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
        assert server.chat(words, **spoken).status_code == 200
        clip = (Path(__file__).parents[2] / "docs" / "media" / "question.wav").read_bytes()
        part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(clip).decode(), "format": "wav"}}
        response = server.chat([part])
        assert response.status_code == 429
        assert "seconds of sound per min" in response.json()["error"]["message"]
        assert server.chat("hi").status_code == 200
    with live(limits=(LimitRule(audio_s_per_minute=10),)) as server:
        statuses = [server.chat([part]).status_code for _ in range(10)]
        assert statuses[0] == 200
        assert statuses[-1] == 429, "what was heard is not given back"


def test_a_quota_outlives_the_server(tmp_path: Path):
    rules = (LimitRule(tokens_per_month=60),)
    with live(limits=rules, state=tmp_path) as server:
        while (response := server.chat("one two three four five six")).status_code == 200:
            pass
        error = response.json()["error"]
        assert (response.status_code, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers
    with live(limits=rules, state=tmp_path) as server:
        assert server.chat("one two three four five six").status_code == 429


def test_calls_at_once():
    with live(limits=(LimitRule(sessions=1),)) as server:
        with phone(server):
            with pytest.raises(InvalidStatus) as caught, phone(server):
                pass
            assert caught.value.response.status_code == 429
        eventually(lambda: can_call(server))


def can_call(server: Live) -> bool:
    try:
        with phone(server):
            return True
    except InvalidStatus:
        return False


def test_a_call_is_told_its_limits():
    with live(limits=(LimitRule(requests_per_minute=2, tokens_per_minute=10_000),)) as server, phone(server) as call:
        for remaining in (1, 0):
            call.user("one two three")
            call.say("response.create", response={"output_modalities": ["text"], "max_output_tokens": 900})
            events = call.until("rate_limits.updated")
            requests, tokens = events[-1]["rate_limits"]
            assert (requests["name"], requests["limit"], requests["remaining"]) == ("requests", 2, remaining)
            used = sum(
                event["response"]["usage"]["total_tokens"] for event in events if event["type"] == "response.done"
            )
            # what was used comes back at 167 tokens a second
            assert 10_000 - 2 * used - 500 < tokens["remaining"] <= 10_000, "900 were reserved, few were used"
            assert 0 < requests["reset_seconds"] <= 60
        call.user("four")
        assert call.refused("response.create") == (None, "rate_limit_exceeded")


def test_servers_of_one_database_count_together(new_postgres: Callable[[], str], tmp_path: Path):
    """One of them in a process of its own."""
    settings = tmp_path / "server.toml"
    settings.write_text('[[limits]]\nmodels = ["gpt-4o"]\nrequests_per_minute = 5\n[[limits]]\nsessions = 1\n')
    database = new_postgres()
    limits = (LimitRule(models=("gpt-4o",), requests_per_minute=5), LimitRule(sessions=1))
    hi = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    with (
        serve("--fake", "--config", str(settings), "--state", str(tmp_path), "--database", database) as url,
        live(limits=limits, state=tmp_path, database=database) as server,
        httpx2.Client(timeout=20) as http,
    ):
        urls = [url, server.url]
        told = [http.post(f"{urls[number % 2]}/v1/chat/completions", json=hi) for number in range(5)]
        assert [response.status_code for response in told] == [200] * 5
        assert allowance(told[1])["remaining-requests"] == "3"
        refused = [http.post(f"{url}/v1/chat/completions", json=hi) for url in urls]
        assert [response.status_code for response in refused] == [429, 429]
        assert allowance(refused[0])["remaining-requests"] == "0"

        here, there = (f"{url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime" for url in urls)
        with connect(here), pytest.raises(InvalidStatus) as caught:
            connect(there).close()
        assert caught.value.response.status_code == 429
        eventually(lambda: can_connect(there))


def test_a_server_that_is_killed_holds_no_calls(new_postgres: Callable[[], str]):
    """It is only its connection to the database that goes here, as it does when a process ends."""
    caller, rule = Caller("", ""), LimitRule(sessions=1)

    async def main() -> None:
        url = new_postgres()
        databases = [Database.open(url) for _ in range(2)]
        killed, other = (Limits((rule,), InPostgres(database)) for database in databases)
        await killed.open_session(caller, "m")
        with pytest.raises(LimitReached):
            await other.open_session(caller, "m")
        await databases[1].write(lambda connection: connection.execute(text(_END_ALL_OTHERS)))
        await other.open_session(caller, "m")  # by a connection that has to be made again
        with pytest.raises(LimitReached):
            await other.open_session(caller, "m")
        for limits, database in zip((killed, other), databases, strict=True):
            await limits.close()
            database.close()

    asyncio.run(main())


_END_ALL_OTHERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def can_connect(url: str) -> bool:
    try:
        connect(url).close()
        return True
    except InvalidStatus:
        return False
