"""Clients that leave in the middle of an answer take nothing with them and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from typing import Any

from sensorium.engine.engine import OmniEngine
from tests.networks import random_release
from tests.server.live import live

CLIENTS = 1000
AT_ONCE = 24  # fewer than the server answers at once, so that each gets to begin


def request(number: int) -> bytes:
    """A streamed chat, by turns written and spoken, that would go on for long."""
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": f"two {number % 7} " * (number % 20 + 1)}],
        "stream": True,
        "temperature": 1,
    }
    if number % 2:
        body |= {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data


async def come_and_go(port: int, number: int, gate: asyncio.Semaphore) -> bool:
    """Leaves at the head of the reply, after some of it, or at once; says whether any of it was seen."""
    rng = random.Random(number)
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(number))
        await writer.drain()
        seen = False
        if rng.random() < 0.8:
            seen = bool(await reader.read(rng.choice([1, 200, 2000])))
        writer.transport.abort()
        return seen


def test_a_thousand_clients_that_vanish_leave_no_page_and_no_task():
    engine: Any = OmniEngine(random_release(), threads=2)
    with live(engine) as server:
        port = int(server.url.rsplit(":", 1)[1])

        async def all_of_them() -> list[bool]:
            gate = asyncio.Semaphore(AT_ONCE)
            return await asyncio.gather(*(come_and_go(port, number, gate) for number in range(CLIENTS)))

        assert sum(asyncio.run(all_of_them())) > CLIENTS // 2
        pool = engine._network.runner.pool

        async def settle() -> None:
            for _ in range(1000):
                gc.collect()
                if not engine._scheduler._jobs and not pool.num_used:
                    return
                await asyncio.sleep(0.01)

        asyncio.run(settle())
        assert not engine._scheduler._jobs
        assert pool.num_used == 0
        assert "sensorium_requests_in_flight 1.0" in server.http.get("/metrics").text, "this one alone"
        assert server.chat("two", max_completion_tokens=4).status_code == 200, "the server answers on"
