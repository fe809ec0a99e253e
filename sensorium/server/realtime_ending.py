"""Why a call is over, and what its client is told of that."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

_CLOSE_S = 10.0  # for a close to get through to a client that may be gone
_GOODBYES = (1000, 1001)
_NO_STATUS = 1005


class Ending(NamedTuple):
    may_come_back: bool = False  # its client, over another socket
    code: int | None = None  # of the close that a client is told which may be there
    reason: str = ""

    async def tell(self, socket: WebSocket) -> None:
        if self.code is None or socket.application_state is not WebSocketState.CONNECTED:
            return
        with suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await socket.close(self.code, self.reason)


HUNG_UP = Ending()
DROPPED = Ending(may_come_back=True)
MOVED = Ending(may_come_back=True, code=1001, reason="The session goes on over another socket.")
BROKEN = Ending(code=1011, reason="The server made a mistake.")
UNREAD = Ending(code=1008, reason="The client left what it was sent unread for too long.")
EXPIRED = Ending(code=1001, reason="The session has reached its maximum duration.")


def is_goodbye(disconnect: Any) -> bool:
    """Whether a client that is gone has closed its socket. One that closes it without a code has no less done so, but
    of a line that dropped the server speaks by the same code: only a close has a reason, if an empty one."""
    code = disconnect.get("code")
    return code in _GOODBYES or (code == _NO_STATUS and "reason" in disconnect)
