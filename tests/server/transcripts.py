"""Transcripts of calls, `golden/*.jsonl`: what a client says and all that it is told, line by line.

    python -m tests.server.transcripts                 writes all of them again, from what their clients say
    python -m tests.server.transcripts errors          writes one

The first line says what is shown and how to call; every other line is one of those below it:

    {"about": "...", "query": "model=...", "headers": {...}, "hold_after": 5, "call_s": 2}
    {"client": {...}}           an event; "@speech", "@hum MS", "@silence MS" and "@pcmu MS" in it stand for sound,
                                "@red" for a picture
    {"client_raw": "..."}       a text that is no event
    {"clock_s": 60}             so much time passes, for whoever waits for silence: else none does
    {"dropped": true}           the line drops, and the client goes on over another one
    {"closed": 1001}            the server hangs up, with this code
    {"server": {...}}           an event; ids are numbered in the order in which they come, times and sound left out

To make a new one, write its first line and what the client says, with ids as they will be numbered, and let the
server's lines be written. `hold_after` stops the first answer behind so many of the engine's events until it is
cancelled: what happens during an answer happens there. Before time passes, say something that is answered: by then all
that was said before has been taken in. After `call_s`, if that is given, the call is over.
Read what was written: the test (test_golden.py) only says that it stays so.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any
from unittest.mock import patch

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import Event, SamplingParams
from sensorium.messages import Message
from sensorium.server import realtime_input, realtime_reply
from sensorium.server.realtime_audio import encoded
from tests.server.calls import SERVER_EVENT, hum, pcm
from tests.server.live import live
from tests.server.samples import data_url, picture
from tests.server.test_turns import spoken

FOLDER = Path(__file__).parent / "golden"

Line = dict[str, Any]

_ID = re.compile(r"\b(item|resp|sess|conv|call)_[0-9a-f]{24}\b")
_NAME = re.compile(r"\b(?:item|resp|sess|conv|call)_\d+\b")
_TIMES = {"expires_at": "<time>", "audio_start_ms": "<ms>", "audio_end_ms": "<ms>", "seconds": "<s>"}
_DURATION = re.compile(r"\b\d{3,5}(?:\.\d+)?\b")  # the fake engine says how long a clip is
_SAID = ("delta", "text", "transcript")
_RED = data_url(picture(color=(200, 0, 0)))
_QUIET_S = 0.7  # after which nothing more is coming


class HoldingEngine(FakeEngine):
    """Stops the next answer after `hold_after` events, until it is cancelled."""

    hold_after: int | None = None

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
        hold_after, self.hold_after = self.hold_after, None
        num_events = 0
        async with aclosing(super().generate(messages, params)) as events:
            async for event in events:
                yield event
                num_events += 1
                if num_events == hold_after:
                    await asyncio.Event().wait()


class Names:
    """The ids of a call by the order in which they come."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def shown(self, text: str) -> str:
        return _ID.sub(lambda found: self._name(found[0], found[1]), text)

    def meant(self, text: str) -> str:
        return _NAME.sub(lambda found: self._ids.get(found[0], found[0]), text)

    def _name(self, id: str, kind: str) -> str:
        if id not in self._names:
            name = f"{kind}_{1 + sum(known.startswith(kind) for known in self._ids)}"
            self._names[id], self._ids[name] = name, id
        return self._names[id]


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, lines: Sequence[Line]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def play(lines: Sequence[Line], *, anew: bool = False) -> list[Line]:
    """The call as it goes now. `anew`: without knowing what will be told, but for the client's part."""
    set_up, engine, names = lines[0], HoldingEngine(), Names()
    now = [set_up]
    clock_s = 0.0
    is_beta = "OpenAI-Beta" in set_up.get("headers", {})
    with (
        ExitStack() as lines_held,
        live(engine, **{name: set_up[name] for name in ("call_s",) if name in set_up}) as server,
        patch.object(realtime_input, "monotonic", lambda: clock_s),
        patch.object(realtime_reply, "monotonic", lambda: clock_s),
    ):
        engine.hold_after = set_up.get("hold_after")

        def call(query: str) -> Connection:
            url = server.url.replace("http", "ws") + "/v1/realtime?" + query
            return lines_held.enter_context(connect(url, max_size=None, additional_headers=set_up.get("headers")))

        socket = call(set_up["query"])
        if anew:
            now += _told(socket, names, is_beta=is_beta)
        for line in lines[1:]:
            match line:
                case {"client": event}:
                    socket.send(_as_sent(event, names))
                case {"client_raw": text}:
                    socket.send(text)
                case {"clock_s": passed_s}:
                    clock_s += passed_s
                case {"dropped": _}:
                    socket.socket.shutdown(SHUT_RDWR)
                    socket = call("session_id=" + names.meant("sess_1"))
                case {"server": _} | {"closed": _}:
                    now += [] if anew else _told(socket, names, is_beta=is_beta, only_next=True)
                    continue
            now.append(line)
            now += _told(socket, names, is_beta=is_beta) if anew else []
        return now if anew or "closed" in now[-1] else now + _told(socket, names, is_beta=is_beta)


def _told(socket: Connection, names: Names, *, is_beta: bool, only_next: bool = False) -> list[Line]:
    told: list[Line] = []
    while not (only_next and told):
        try:
            text = socket.recv(timeout=10 if only_next else _QUIET_S)
        except TimeoutError:
            break
        except ConnectionClosed as over:
            return [*told, {"closed": over.rcvd and over.rcvd.code}]
        if not is_beta:
            SERVER_EVENT.validate_json(text, strict=True)
        event = json.loads(text)
        assert event.pop("event_id").startswith("event_")
        told.append({"server": json.loads(names.shown(json.dumps(_without_times(event))))})
    return told


def _as_sent(event: Line, names: Names) -> str:
    return names.meant(json.dumps({key: _with_sound(value) for key, value in event.items()}))


def _with_sound(value: Any) -> Any:
    match value:
        case dict():
            return {key: _with_sound(inner) for key, inner in value.items()}
        case list():
            return [_with_sound(inner) for inner in value]
        case "@speech":
            return pcm(spoken())
        case str() if value.startswith("@hum "):
            return pcm(hum(int(value.split()[1])))
        case str() if value.startswith("@silence "):
            return pcm(np.zeros(24 * int(value.split()[1]), np.float32))
        case str() if value.startswith("@pcmu "):
            sound = hum(int(value.split()[1]), rate_hz=8000)
            return base64.b64encode(encoded(sound, "audio/pcmu")).decode()
        case "@red":
            return _RED
        case _:
            return value


def _without_times(event: Any) -> Any:
    match event:
        case {"type": "conversation.item.truncated"}:
            return event  # its time is the client's
        case {"type": "response.output_audio.delta" | "response.audio.delta"}:
            assert base64.b64decode(event["delta"], validate=True)
            return {**event, "delta": "<sound>"}
        case dict():
            return {key: _shown(key, value) for key, value in event.items()}
        case list():
            return [_without_times(each) for each in event]
        case _:
            return event


def _shown(key: str, value: Any) -> Any:
    if value == _RED:
        return "@red"
    if key in _TIMES:
        return _TIMES[key]
    if key in _SAID and isinstance(value, str):
        return _DURATION.sub("<ms>", value)
    if key == "audio" and isinstance(value, str):
        return "<sound>"
    return _without_times(value)


if __name__ == "__main__":
    for file in [FOLDER / f"{name}.jsonl" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.jsonl")):
        said = [line for line in read(file) if "server" not in line and "closed" not in line]
        written = play(said, anew=True)
        write(file, written)
        print(f"{file.name}: {len(said) - 1} lines said, {len(written) - len(said)} told")
