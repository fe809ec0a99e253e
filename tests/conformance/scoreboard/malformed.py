"""Thousands of requests that are nearly right, to every endpoint that takes one: what the server says to them.

They go to the application in this process, each the next one hypothesis thinks of; the same ones every time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2
from hypothesis import HealthCheck, Phase, given, settings

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig, build_app
from tests.conformance.nearly_right import BODIES, FORMS, Sent, sent


def run(num_requests: int) -> dict[str, Any]:
    """How many answers had each status, and the requests behind those of 500 and more."""
    app = build_app(FakeEngine(), ServerConfig())
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    begun_s = time.monotonic()
    with asyncio.Runner() as runner:
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())

        @settings(
            max_examples=num_requests,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        @given(sent())
        def ask(request: Sent) -> None:
            headers = {"content-type": request.media_type} if request.media_type else {}
            response = runner.run(http.post(request.path, content=request.body, headers=headers))
            statuses[response.status_code] += 1
            if response.status_code >= 500:
                failures.append(f"{response.status_code} POST {request.path} {request.body[:400]!r}")

        ask()
        runner.run(http.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
    return {
        "requests": statuses.total(),
        "endpoints": len({**BODIES, **FORMS}),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "failures": failures,
        "seconds": round(time.monotonic() - begun_s),
    }
