"""Calls whose socket dropped: kept for a while, so that their clients can go on with them over another one.

Kept is what the client would have to tell again: the items with their sound, the settings, and what the microphone had
heard of a turn. What the engine has read is not: it reads the items once more when the call goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from sensorium.server.access import ANYONE, Access
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError
from sensorium.server.realtime import Call
from sensorium.server.realtime_ending import MOVED

Owner: TypeAlias = tuple[str | None, str]  # the key and the project that opened a call

PARAM = "session_id"  # of the query: names the call to go on with


class _Parked(NamedTuple):
    owner: Owner
    call: Call
    num_bytes: int
    forget: asyncio.TimerHandle


class _OnLine(NamedTuple):
    owner: Owner
    call: Call
    over: asyncio.Event


class KeptCalls:
    """By the id of their session. Those with a socket are known too: of a dead one the client may know first."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._parked: dict[str, _Parked] = {}  # the oldest first
        self._on_line: dict[str, _OnLine] = {}

    @contextmanager
    def on_line(self, call: Call, owner: Owner) -> Iterator[None]:
        """For as long as a call has a socket."""
        line = self._on_line[call.id] = _OnLine(owner, call, asyncio.Event())
        try:
            yield
        finally:
            del self._on_line[call.id]
            line.over.set()

    async def find(self, session_id: str, owner: Owner) -> Call:
        """Raises APIError where there is none that is this owner's. A socket that still holds it is let go."""
        line = self._on_line.get(session_id)
        if line is not None and line.owner == owner:
            line.call.end(MOVED)
            await line.over.wait()
        parked = self._parked.get(session_id)
        if parked is None or parked.owner != owner:
            raise _not_found(session_id)
        return parked.call

    def take(self, call: Call) -> None:
        """It goes on. Raises APIError if it has gone since it was found."""
        if call.id not in self._parked:
            raise _not_found(call.id)
        self._parked.pop(call.id).forget.cancel()

    def keep(self, call: Call, owner: Owner) -> None:
        """Until its time is over, or later ones need the room."""
        keep_s = min(self._config.kept_call_s, call.expires_at - time.time())
        if keep_s <= 0:
            call.close()
            return
        call.park()
        timer = asyncio.get_running_loop().call_later(keep_s, self._forget, call.id)
        self._parked[call.id] = _Parked(owner, call, call.num_bytes, timer)
        while len(self._parked) > self._config.max_kept_calls or self._num_bytes > self._config.max_kept_call_bytes:
            self._forget(next(iter(self._parked)))

    def _forget(self, session_id: str) -> None:
        parked = self._parked.pop(session_id)
        parked.forget.cancel()
        parked.call.close()

    @property
    def _num_bytes(self) -> int:
        return sum(parked.num_bytes for parked in self._parked.values())

    def close(self) -> None:
        for session_id in list(self._parked):
            self._forget(session_id)


def owner_of(state: Any) -> Owner:
    """Of a socket's state. A short-lived key is the one that asked for it."""
    access: Access = getattr(state, "access", ANYONE)
    return access.key_id, access.project


def _not_found(session_id: str) -> APIError:
    message = f"There is no session '{session_id[:64]}' to go on with, or no longer."
    return APIError(message, status=404, param=PARAM, code="session_not_found")
