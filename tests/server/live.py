"""A server in a thread of this process, so that a test sees both sides: what a client gets, what the engine got."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx2
import openai
import structlog
import uvicorn
from starlette.types import ASGIApp

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig, build_app
from sensorium.server.tls import identity

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # quiet: a test that wants the log captures it


class Live(NamedTuple):
    url: str
    engine: FakeEngine
    http: httpx2.Client
    closing: ExitStack

    def official(self, **options: Any) -> openai.OpenAI:
        """The official client. It is closed with the server: a connection left open is a warning in a later test."""
        options = {"api_key": "none", "max_retries": 0, **options}
        return self.closing.enter_context(openai.OpenAI(base_url=f"{self.url}/v1", **options))

    def chat(self, content: Any = "hi", **fields: Any) -> httpx2.Response:
        """One user message to the chat endpoint."""
        request = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], **fields}
        return self.http.post("/v1/chat/completions", json=request)

    def respond(self, input: Any = "hi", **fields: Any) -> httpx2.Response:
        """The same to the Responses API."""
        return self.http.post("/v1/responses", json={"model": "gpt-4o", "input": input, **fields})

    def refusal(self, content: Any = "hi", *, status: int = 400, **fields: Any) -> tuple[str | None, str | None]:
        """`param` and `code` of the error that a request gets, and a check of everything that errors have in common."""
        response = self.chat(content, **fields)
        assert response.status_code == status, response.text
        return envelope(response)


def envelope(response: httpx2.Response) -> tuple[str | None, str | None]:
    assert response.headers["x-request-id"].startswith("req_")
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == ("server_error" if response.status_code >= 500 else "invalid_request_error")
    return error["param"], error["code"]


@contextmanager
def live(
    engine: FakeEngine | None = None, *, around: Callable[[ASGIApp], ASGIApp] | None = None, **options: Any
) -> Iterator[Live]:
    """Serves a fake engine on a free port of this machine. `options` are those of ServerConfig.

    `around` puts a layer of the caller's around the application.
    """
    engine = engine or FakeEngine()
    config = ServerConfig(**options)
    shown = identity(config)
    files: dict[str, Any] = {"ssl_certfile": shown.certificate, "ssl_keyfile": shown.key} if shown else {}
    app: ASGIApp = build_app(engine, config)
    served = around(app) if around else app
    settings = {"port": 0, "log_config": None, "ws_max_size": config.max_event_bytes, **files}
    server = uvicorn.Server(uvicorn.Config(served, **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        # a real engine's first start in a fresh clone compiles the kernels, which takes a busy machine long
        eventually(lambda: server.started or not thread.is_alive(), timeout_s=300)
        assert server.started, "the server stopped in its start"
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"{'https' if shown else 'http'}://127.0.0.1:{port}"
        trusted = ssl.create_default_context(cafile=shown.certificate) if shown else True
        with httpx2.Client(base_url=url, timeout=60, verify=trusted) as http, ExitStack() as closing:
            yield Live(url, engine, http, closing)
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Waits until something on another thread has come about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
