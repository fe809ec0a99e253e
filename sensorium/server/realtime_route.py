"""GET /v1/realtime: who may call, and what the call begins with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sensorium.engine.request import LiveEngine
from sensorium.server import realtime_beta
from sensorium.server.chat_request import check_model
from sensorium.server.client_secrets import ClientSecrets, Granted
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Json, new_id
from sensorium.server.errors import APIError, invalid, missing
from sensorium.server.media import Decoders
from sensorium.server.metering import Meter
from sensorium.server.metrics import Metrics
from sensorium.server.picture_out import PictureWriter
from sensorium.server.realtime import Call
from sensorium.server.realtime_ending import DROPPED, Ending
from sensorium.server.realtime_events import SessionConfig, TranscriptionConfig
from sensorium.server.realtime_kept import PARAM, KeptCalls, Owner, owner_of
from sensorium.server.realtime_session import check_session, session_body
from sensorium.server.realtime_tasks import Threads

ROUTE = "/v1/realtime"
SUBPROTOCOL = "realtime"


class Realtime:
    def __init__(
        self,
        engine: LiveEngine,
        config: ServerConfig,
        metrics: Metrics,
        decoders: Decoders,
        meter: Meter,
        pictures: PictureWriter,
    ) -> None:
        self._meter = meter
        self._engine = engine
        self._config = config
        self._num_calls = 0
        self._kept = KeptCalls(config)
        self.client_secrets = ClientSecrets(config, body_of=self._body_of)
        self._listening = ThreadPoolExecutor(1, thread_name_prefix="sensorium-turns")
        self._parts = engine, config, metrics, Threads(decoders=decoders, listening=self._listening), meter, pictures

    def close(self) -> None:
        self._kept.close()
        self._listening.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route(ROUTE, self.answer)
        router.include_router(self.client_secrets.routes())
        return router

    def _body_of(self, asked: SessionConfig | TranscriptionConfig) -> Json:
        session = asked if isinstance(asked, SessionConfig) else asked.as_session()
        check_session(session, self._engine.info, self._config)
        transcribes = isinstance(asked, TranscriptionConfig)
        head = {"id": new_id("sess"), "expires_at": 0}  # it has not begun
        return session_body(session, head, model=session.model or self._engine.info.model, transcribes=transcribes)

    async def answer(self, socket: WebSocket) -> None:
        try:
            ending = await self._answer(socket)
        except APIError as error:
            await socket.send_denial_response(error.response())
            return
        await ending.tell(socket)  # which may take a while: by now the call's place and memory are free

    async def _answer(self, socket: WebSocket) -> Ending:
        """Raises APIError if there is to be no call."""
        owner, kept = owner_of(socket.state), None
        if (session_id := socket.query_params.get(PARAM)) is not None:
            kept = await self._kept.find(session_id, owner)
        model, asked = self._asked_for(socket, kept)
        async with self._place(socket, model):
            if kept is not None:
                self._kept.take(kept)
            call = kept or Call(*self._parts, model=model)
            if asked is not None:
                call.begin_as(asked)
            return await self._talk(call, socket, owner)

    def _asked_for(
        self, socket: WebSocket, kept: Call | None
    ) -> tuple[str, SessionConfig | TranscriptionConfig | None]:
        """The model, and the session to begin with. A call that goes on has its own; raises APIError if another kind
        is asked for."""
        intent, model = socket.query_params.get("intent"), socket.query_params.get("model")
        if intent not in (None, "conversation", "transcription"):
            raise invalid("Supported are 'conversation' and 'transcription'.", "intent")
        asked: SessionConfig | TranscriptionConfig | None = None
        if kept is not None:
            if intent is not None and kept.transcribes != (intent == "transcription"):
                raise invalid("The kind of a session cannot change.", "intent")
            model = model or kept.model
        else:
            granted: Granted | None = socket.scope.get("state", {}).get("granted")
            asked = granted.session if granted else None
            if asked is None and intent == "transcription":
                asked = TranscriptionConfig(type="transcription")
            model = model or (asked and (getattr(asked, "model", None) or self._engine.info.model))
        if model is None:
            raise missing("model")
        check_model(model, self._engine.info, self._config, param="model")
        return model, asked

    @asynccontextmanager
    async def _place(self, socket: WebSocket, model: str) -> AsyncGenerator[None]:
        """Counts a call while it is on line. Raises APIError where there are too many."""
        if self._num_calls >= self._config.max_calls:
            raise APIError("The server is busy. Please try again.", status=503, type="server_error")
        self._num_calls += 1
        try:
            close_session = await self._meter.open_session(socket.state, model)
            try:
                yield
            finally:
                close_session()
        finally:
            self._num_calls -= 1

    async def _talk(self, call: Call, socket: WebSocket, owner: Owner) -> Ending:
        offered: list[str] = socket.scope["subprotocols"]
        known = [name for name in (SUBPROTOCOL, realtime_beta.SUBPROTOCOL) if name in offered]
        ending = DROPPED
        try:
            await socket.accept(known[0] if known else None)  # browsers hang up unless one of theirs is taken
            with self._kept.on_line(call, owner):
                ending = await call.run(socket, beta=_asks_for_beta(socket))
        finally:
            if ending.may_come_back:  # kept before anybody who waits for it looks
                self._kept.keep(call, owner)
            else:
                call.close()
        return ending


def _asks_for_beta(socket: WebSocket) -> bool:
    named = [name.strip() for name in socket.headers.get(realtime_beta.HEADER, "").split(",")]
    return realtime_beta.HEADER_VALUE in named or realtime_beta.SUBPROTOCOL in socket.scope["subprotocols"]
