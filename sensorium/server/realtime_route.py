"""GET /v1/realtime: who may call, and what the call begins with."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sensorium.engine.request import LiveEngine
from sensorium.server import realtime_beta
from sensorium.server.chat_request import check_model
from sensorium.server.client_secrets import ClientSecrets, Granted
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Json, new_id
from sensorium.server.errors import APIError, invalid, missing
from sensorium.server.metering import Meter
from sensorium.server.metrics import Metrics
from sensorium.server.picture_out import PictureWriter
from sensorium.server.realtime import Call, Threads
from sensorium.server.realtime_events import SessionConfig, TranscriptionConfig
from sensorium.server.realtime_session import check_session, session_body

ROUTE = "/v1/realtime"
SUBPROTOCOL = "realtime"


class Realtime:
    def __init__(
        self,
        engine: LiveEngine,
        config: ServerConfig,
        metrics: Metrics,
        decoders: Executor,
        meter: Meter,
        pictures: PictureWriter,
    ) -> None:
        self._meter = meter
        self._pictures = pictures
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._decoders = decoders
        self._num_calls = 0
        self.client_secrets = ClientSecrets(config, body_of=self._body_of)
        self._listening = ThreadPoolExecutor(1, thread_name_prefix="sensorium-turns")

    def close(self) -> None:
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
            intent = socket.query_params.get("intent", "conversation")
            if intent not in ("conversation", "transcription"):
                raise invalid("Supported are 'conversation' and 'transcription'.", "intent")
            granted: Granted | None = socket.scope.get("state", {}).get("granted")
            asked = granted.session if granted else None
            if asked is None and intent == "transcription":
                asked = TranscriptionConfig(type="transcription")
            model = socket.query_params.get("model") or (
                asked and (getattr(asked, "model", None) or self._engine.info.model)
            )
            if model is None:
                raise missing("model")
            check_model(model, self._engine.info, self._config, param="model")
            if self._num_calls >= self._config.max_calls:
                raise APIError("The server is busy. Please try again.", status=503, type="server_error")
        except APIError as error:
            await socket.send_denial_response(error.response())
            return
        self._num_calls += 1
        try:
            await self._call_within_limits(socket, model, asked)
        finally:
            self._num_calls -= 1

    async def _call_within_limits(
        self, socket: WebSocket, model: str, asked: SessionConfig | TranscriptionConfig | None
    ) -> None:
        try:
            close_session = await self._meter.open_session(socket.state, model)
        except APIError as error:
            await socket.send_denial_response(error.response())
            return
        try:
            await self._call(socket, model, asked)
        finally:
            close_session()

    async def _call(self, socket: WebSocket, model: str, asked: SessionConfig | TranscriptionConfig | None) -> None:
        offered: list[str] = socket.scope["subprotocols"]
        known = [name for name in (SUBPROTOCOL, realtime_beta.SUBPROTOCOL) if name in offered]
        await socket.accept(known[0] if known else None)  # browsers hang up unless one of theirs is taken
        threads = Threads(decoders=self._decoders, listening=self._listening)
        call = Call(
            socket,
            self._engine,
            self._config,
            self._metrics,
            threads,
            self._meter,
            self._pictures,
            model=model,
            beta=_asks_for_beta(socket),
        )
        if asked is not None:
            call.begin_as(asked)
        await call.run()


def _asks_for_beta(socket: WebSocket) -> bool:
    named = [name.strip() for name in socket.headers.get(realtime_beta.HEADER, "").split(",")]
    return realtime_beta.HEADER_VALUE in named or realtime_beta.SUBPROTOCOL in socket.scope["subprotocols"]
