"""Responses of the background that several servers of one database know: cancelled elsewhere, killed, cut off."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai.types.responses as sdk
import psycopg
import pytest
from pydantic import TypeAdapter

from tests.server.live import eventually, live
from tests.server.test_responses import events_of, kinds, respond
from tests.server.test_responses_state import get, post
from tests.serving import ROOT

HTTP = httpx2.Client(timeout=60)  # a busy machine takes its time


@pytest.fixture(scope="module", autouse=True)
def closing() -> Iterator[None]:
    with HTTP:
        yield


SLOW_SERVER = """
import asyncio, sys
from pathlib import Path
import uvicorn
from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig, build_app

app = build_app(FakeEngine(delay_ms=20), ServerConfig(state=Path(sys.argv[1]), database=sys.argv[2]))

async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(main())
"""


@contextmanager
def slow_process(state: Path, database_url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own: the URL of its responses, and the process."""
    command = [sys.executable, "-c", SLOW_SERVER, str(state), database_url]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/responses", process
        finally:
            process.kill()


def test_responses_of_a_server_that_was_killed_have_failed(tmp_path: Path, database_url: str):
    asked = {"model": "gpt-4o", "input": "word " * 2000, "background": True}
    with (
        slow_process(tmp_path, database_url) as (url, process),
        slow_process(tmp_path, database_url) as (other_url, _),
        live(state=tmp_path, database=database_url) as server,
    ):
        begun = [HTTP.post(url, json=asked).json() for _ in range(4)]
        elsewhere = HTTP.post(other_url, json=asked).json()
        polled, streamed, resumed, cancelled = (f"responses/{body['id']}" for body in begun)
        assert get(server, polled)["status"] == "queued", "its server is there"
        assert get(server, polled, 400, stream="true")["error"]["param"] == "stream"
        process.kill()
        process.wait()
        eventually(lambda: get(server, polled)["status"] == "failed")  # PostgreSQL sees it in a moment
        body = get(server, polled)
        TypeAdapter(sdk.Response).validate_python(body, strict=True)
        assert body["error"] == {"code": "server_error", "message": "The server was stopped."}
        assert post(server, f"{cancelled}/cancel")["status"] == "failed"
        whole = events_of(server.http.get(f"/v1/{streamed}?stream=true").text)
        assert kinds(whole) == ["created", "queued", "failed"]
        assert [event["sequence_number"] for event in whole] == [0, 1, 2]
        for after in (1, 40):  # of which the client has seen more than was kept
            (last,) = events_of(server.http.get(f"/v1/{resumed}?stream=true&starting_after={after}").text)
            assert (last["type"], last["sequence_number"]) == ("response.failed", after + 1)
            assert last["response"]["error"] == body["error"]
        respond(server, "hi", previous_response_id=begun[0]["id"])
        assert get(server, f"responses/{elsewhere['id']}")["status"] != "failed", "another server's goes on"


@contextmanager
def followed(url: str, asked: dict[str, Any]) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """A streamed response that has begun: its id, and the events that follow, as they come."""
    with HTTP.stream("POST", url, json=asked) as response:
        lines = response.iter_lines()
        events = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        yield next(events)["response"]["id"], events


def test_a_response_is_cancelled_at_another_server(tmp_path: Path, database_url: str):
    asked = {"model": "gpt-4o", "input": "word " * 2000, "background": True, "stream": True}
    with slow_process(tmp_path, database_url) as (url, _), live(state=tmp_path, database=database_url) as server:
        other_url = f"{server.url}/v1/responses"
        with followed(url, asked) as (id, events):
            cancelled = HTTP.post(f"{other_url}/{id}/cancel").json()
            TypeAdapter(sdk.Response).validate_python(cancelled, strict=True)
            assert (cancelled["status"], cancelled["output"]) == ("cancelled", [])
            assert HTTP.get(f"{url}/{id}").json() == cancelled, "at once, whatever its server is doing"
            rest = list(events)  # it ends: that server has stopped
        assert not ENDINGS & set(kinds(rest))
        assert HTTP.get(f"{url}/{id}").json() == HTTP.get(f"{other_url}/{id}").json() == cancelled
        assert HTTP.post(f"{url}/{id}/cancel").json() == cancelled
        whole = events_of(HTTP.get(f"{other_url}/{id}?stream=true").text)
        assert kinds(whole) == ["created", "queued"]


def test_a_response_is_deleted_at_another_server(tmp_path: Path, database_url: str):
    asked = {"model": "gpt-4o", "input": "word " * 2000, "background": True, "stream": True}
    with slow_process(tmp_path, database_url) as (url, _), live(state=tmp_path, database=database_url) as server:
        with followed(url, asked) as (id, events):
            assert HTTP.delete(f"{server.url}/v1/responses/{id}").status_code == 200
            rest = list(events)
        assert not ENDINGS & set(kinds(rest))
        assert HTTP.get(f"{url}/{id}").status_code == 404, "its server does not bring it back"


ENDINGS = {"completed", "failed", "incomplete"}


class Cut:
    """A PostgreSQL that one server, with an account of its own, may be cut off from."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.account = f"cut_{secrets.token_hex(6)}"
        self.url = url.replace("postgres@", f"{self.account}@")
        self._execute(f"CREATE ROLE {self.account} SUPERUSER LOGIN")

    def off(self) -> None:
        self._execute(f"ALTER ROLE {self.account} NOLOGIN")
        self._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.account}'")

    def on(self) -> None:
        self._execute(f"ALTER ROLE {self.account} LOGIN")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())


def test_a_server_that_was_cut_off_overwrites_no_ending(tmp_path: Path, new_postgres: Callable[[], str]):
    """Its response is failed by another while it goes on; both it and its client learn of that."""
    cut = Cut(database := new_postgres())
    asked = {"model": "gpt-4o", "input": "word " * 100, "background": True, "stream": True}
    with slow_process(tmp_path, cut.url) as (url, _), live(state=tmp_path, database=database) as server:
        with followed(url, asked) as (id, events):
            cut.off()
            eventually(lambda: get(server, f"responses/{id}")["status"] == "failed")
            failed = get(server, f"responses/{id}")
            cut.on()
            rest = list(events)
        assert [kind for kind in kinds(rest) if kind in ENDINGS] == ["failed"]
        assert rest[-1]["response"] == failed
        assert HTTP.get(f"{url}/{id}").json() == get(server, f"responses/{id}") == failed
        (last,) = events_of(HTTP.get(f"{url}/{id}?stream=true&starting_after=1").text)
        assert (last["type"], last["response"]) == ("response.failed", failed)


def test_a_server_that_was_cut_off_writes_down_what_it_made(tmp_path: Path, new_postgres: Callable[[], str]):
    """Nobody has asked for its response meanwhile. How it ended is told only when that is written down."""
    cut = Cut(database := new_postgres())
    asked = {"model": "gpt-4o", "input": "a b c d e", "background": True, "stream": True}
    with slow_process(tmp_path, cut.url) as (url, _), live(state=tmp_path, database=database) as server:
        with followed(url, asked) as (id, events):
            cut.off()
            next(event for event in events if event.get("delta") == ' e".')  # the last word
            cut.on()
            rest = list(events)
        assert kinds(rest)[-1] == "completed"
        body = get(server, f"responses/{id}")
        assert body["status"] == "completed"
        assert body["output"][0]["content"][0]["text"] == 'You said "a b c d e".'
        again = HTTP.post(url, json={**asked, "stream": False}).json()
        assert get(server, f"responses/{again['id']}")["status"] != "failed", "its server is seen to be there again"


def test_a_response_is_given_up_when_it_should_long_be_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sensorium.server.responses_kept._GRACE_S", 0.0)
    url = f"sqlite:///{tmp_path}/sensorium.db"
    with slow_process(tmp_path, url) as (there, _), live(state=tmp_path, request_timeout_s=0.001) as server:
        begun = HTTP.post(there, json={"model": "gpt-4o", "input": "word " * 2000, "background": True}).json()
        eventually(lambda: get(server, f"responses/{begun['id']}")["status"] == "failed")
