"""The outermost layer: who may come in, how many at once, and that every answer has its id, headers and log line."""

from __future__ import annotations

import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from sensorium.server.access import Doorkeeper, authorization, check_origin
from sensorium.server.client_secrets import PREFIX, ClientSecrets, Granted
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, internal
from sensorium.server.hangup import run_until_hangup
from sensorium.server.logs import describe
from sensorium.server.metrics import Metrics

log = structlog.get_logger()

CLIENT_CLOSED_REQUEST = 499  # never sent: for the log and the metrics of requests whose client went or stopped reading

# Scripts, styles and pictures of the playground come from here and from nowhere else.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        *,
        config: ServerConfig,
        metrics: Metrics,
        model: str,
        client_secrets: ClientSecrets,
        doorkeeper: Doorkeeper,
    ) -> None:
        self._app = app
        self._client_secrets = client_secrets
        self._config = config
        self._doorkeeper = doorkeeper
        self._metrics = metrics
        self._num_answering = 0
        self._headers = {
            "openai-version": "2020-10-01",
            "openai-organization": "sensorium",
            "openai-model": model,
            "content-security-policy": _CONTENT_SECURITY_POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        request_id = f"req_{secrets.token_hex(16)}"
        figures: dict[str, float] = {}
        scope.setdefault("state", {})["log"] = figures
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.update(scope["state"].get("limit_headers", {}))
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - started_s)))
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress(), bound_contextvars(request_id=request_id):
                if await self._answer(scope, receive, send_with_headers):
                    status = CLIENT_CLOSED_REQUEST
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            log.error("request failed", request_id=request_id, **describe(error))
            if not status:
                await internal().response()(scope, receive, send_with_headers)
        finally:
            figures["elapsed_ms"] = round(1000 * (time.perf_counter() - started_s), 1)
            self._record(scope, status, request_id, figures)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Lets a request in, or refuses it. Returns whether its client went away."""
        try:
            await self._admit(scope)
        except APIError as error:
            await error.response()(scope, receive, send)
            return False
        works = scope["method"] == "POST"
        self._num_answering += works
        try:
            return await run_until_hangup(self._app, scope, receive, send, send_timeout_s=self._config.send_timeout_s)
        finally:
            self._num_answering -= works

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a socket in, or refuses it before it is one."""
        request_id = f"req_{secrets.token_hex(16)}"
        started_s = time.perf_counter()
        try:
            granted = await self._granted(scope)
            access = granted.access if granted else await self._doorkeeper.admit(scope)
            scope.setdefault("state", {}).update(granted=granted, access=access, project=access.project)
            check_origin(Headers(scope=scope).get("origin"), self._config)
        except APIError as error:
            await error.response()(scope, receive, send)
            return
        with self._metrics.in_flight.track_inprogress(), bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send)
        path = getattr(scope.get("route"), "path", "other")
        elapsed_ms = round(1000 * (time.perf_counter() - started_s), 1)
        log.info("socket", request_id=request_id, route=path, elapsed_ms=elapsed_ms)

    async def _granted(self, scope: Scope) -> Granted | None:
        """What a client secret opens, if the caller has shown one. Raises APIError if that is not valid any more, or
        the key that has asked for it is not."""
        key = authorization(scope).partition(" ")[2].strip()
        if not key.startswith(PREFIX) or key in self._config.api_keys:
            return None
        granted = self._client_secrets.find(key)
        if granted is None or not await self._doorkeeper.still_admits(granted.access):
            raise APIError("The client secret is not valid, or no longer.", status=401, code="invalid_api_key")
        return granted

    async def _admit(self, scope: Scope) -> None:
        access = await self._doorkeeper.admit(scope)
        scope["state"].update(access=access, project=access.project)
        if scope["method"] == "POST" and self._num_answering >= self._config.max_concurrent_requests:
            raise APIError(
                "The server is busy. Please try again.", status=503, type="server_error", headers={"retry-after": "1"}
            )

    def _record(self, scope: Scope, status: int, request_id: str, figures: dict[str, float]) -> None:
        route = getattr(scope.get("route"), "path", "other")  # a template, never what a client wrote
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.request_ms.labels(route).observe(figures["elapsed_ms"])
        log.info("request", request_id=request_id, method=method, route=route, status=status, **figures)
