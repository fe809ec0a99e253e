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
from pydantic import Field

from sensorium.server import realtime_beta
from sensorium.server.access import Access
from sensorium.server.body import read_json
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid, validated
from sensorium.server.realtime_events import SessionConfig, SessionKind, TranscriptionConfig
from sensorium.server.wire import Wire

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
    access: Access  # of whoever asked for it
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
        router.add_api_route("/v1/realtime/sessions", self.create_beta, methods=["POST"])
        router.add_api_route("/v1/realtime/transcription_sessions", self.create_beta_transcription, methods=["POST"])
        return router

    async def create(self, http: Request) -> dict[str, Any]:
        body = await read_json(http, self._config)
        if isinstance(body, dict):
            realtime_beta.refuse_gone(body)
        secret, session = self._grant(body, http.state.access)
        # inside the session too, where openai-python before 2.0 looks for it
        return {**secret, "session": {**session, "client_secret": secret}}

    async def create_beta(self, http: Request) -> dict[str, Any]:
        """The retired shape of the same: a flat session that holds its secret."""
        body = await read_json(http, self._config)
        return self._grant_beta(body, realtime_beta.realtime_to_ga, http.state.access)

    async def create_beta_transcription(self, http: Request) -> dict[str, Any]:
        body = await read_json(http, self._config)
        return self._grant_beta(body, realtime_beta.transcription_to_ga, http.state.access)

    def _grant_beta(self, flat: Any, to_ga: Callable[[Any], Any], access: Access) -> dict[str, Any]:
        if not isinstance(flat, dict):
            raise invalid("A session is a JSON object.", None, "invalid_type")
        asked = flat.get("client_secret")
        # the two kinds of sessions call it differently
        wanted = asked.get("expires_after", asked.get("expires_at")) if isinstance(asked, dict) else None
        try:
            body = {"session": to_ga(flat)}
            secret, session = self._grant(body if wanted is None else {**body, "expires_after": wanted}, access)
        except APIError as error:
            named = realtime_beta.error_from_ga(error.envelope()["error"])
            param, message = named["param"] or "", named["message"]
            error.param = param.removeprefix("session.") or None
            error.message = message.replace(param, error.param) if error.param else message
            raise
        return {**realtime_beta.session_from_ga(session), "client_secret": secret}

    def _grant(self, body: Any, access: Access) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new secret, and its session written out. Raises APIError for what cannot be obeyed."""
        request = validated(ClientSecretRequest, body)
        session = self._body_of(request.session)
        now_s = int(time.time())
        self._granted = {key: granted for key, granted in self._granted.items() if granted.expires_at_s > now_s}
        if len(self._granted) >= MAX_SECRETS:
            raise APIError("Too many client secrets are in use.", status=429, type="requests")
        value, expires_at_s = f"{PREFIX}{secrets.token_hex(24)}", now_s + request.expires_after.seconds
        self._granted[value] = Granted(expires_at_s, access, request.session)
        return {"value": value, "expires_at": expires_at_s}, session

    def find(self, key: str) -> Granted | None:
        """What a key that has not expired stands for."""
        granted = self._granted.get(key)
        return granted if granted is not None and granted.expires_at_s > time.time() else None
