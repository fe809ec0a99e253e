"""POST /v1/realtime/client_secrets: short-lived keys that a server hands to its pages, each for calls of one set-up.

A key opens calls until it expires, as many as wanted, and nothing else. The page that holds it can't see the server's
own key, and begins with the session that was made for it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Request
from pydantic import Field, ValidationError

from sensorium.server.body import read_json
from sensorium.server.chat_request import Wire
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, from_validation
from sensorium.server.realtime_events import SessionConfig, SessionKind, TranscriptionConfig

PREFIX = "ek_"
MAX_SECRETS = 10_000


class ExpiresAfter(Wire):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=10, le=7200)] = 600


class ClientSecretRequest(Wire):
    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionKind = SessionConfig(type="realtime")


class Granted(NamedTuple):
    expires_at_s: int  # seconds since 1970
    session: SessionConfig | TranscriptionConfig


class ClientSecrets:
    """The keys given out, in memory: a restart ends them all."""

    def __init__(
        self, config: ServerConfig, *, body_of: Callable[[SessionConfig | TranscriptionConfig], dict[str, Any]]
    ) -> None:
        """`body_of` checks a session and writes it out whole; raises APIError for what cannot be obeyed."""
        self._config = config
        self._body_of = body_of
        self._granted: dict[str, Granted] = {}

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/v1/realtime/client_secrets", self.create, methods=["POST"])
        return router

    async def create(self, http: Request) -> dict[str, Any]:
        body = await read_json(http, self._config)
        try:
            request = ClientSecretRequest.model_validate(body)
        except ValidationError as error:
            raise from_validation(error) from None
        session = self._body_of(request.session)
        now_s = int(time.time())
        self._granted = {key: granted for key, granted in self._granted.items() if granted.expires_at_s > now_s}
        if len(self._granted) >= MAX_SECRETS:
            raise APIError("Too many client secrets are in use.", status=429, type="requests")
        value, expires_at_s = f"{PREFIX}{secrets.token_hex(24)}", now_s + request.expires_after.seconds
        self._granted[value] = Granted(expires_at_s, request.session)
        secret = {"value": value, "expires_at": expires_at_s}
        # inside the session too, where openai-python before 2.0 looks for it
        return {**secret, "session": {**session, "client_secret": secret}}

    def find(self, key: str) -> Granted | None:
        """What a key that has not expired stands for."""
        granted = self._granted.get(key)
        return granted if granted is not None and granted.expires_at_s > time.time() else None
