"""The server, put together: routes, the layers around them, and what happens at start and stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from sensorium.engine.request import LiveEngine, SamplingParams
from sensorium.messages import Message, Text
from sensorium.platform.limits import Limits
from sensorium.platform.shared_limits import InPostgres
from sensorium.platform.state import State
from sensorium.safety.provenance import Credentials, Identity
from sensorium.server.access import Doorkeeper
from sensorium.server.answering import Answering
from sensorium.server.audio_out import SpeechWriter
from sensorium.server.chat import Chat
from sensorium.server.completions import Completions
from sensorium.server.config import ServerConfig
from sensorium.server.conversations import Conversations
from sensorium.server.edge import Edge
from sensorium.server.embeddings import Embeddings
from sensorium.server.errors import APIError, from_validation
from sensorium.server.files import Files
from sensorium.server.images import Images
from sensorium.server.logs import configure_logging
from sensorium.server.media import Decoders
from sensorium.server.metering import Meter
from sensorium.server.metrics import Metrics
from sensorium.server.models import model_routes
from sensorium.server.organization import Organization
from sensorium.server.picture_links import PictureLinks
from sensorium.server.picture_out import PictureWriter
from sensorium.server.realtime_route import Realtime
from sensorium.server.responses import Responses
from sensorium.server.responses_compact import Compactions
from sensorium.server.speech import MANNER_HEADER, Speech
from sensorium.server.transcription import Transcriptions
from sensorium.server.usage import UsageReports

__all__ = ["ServerConfig", "build_app"]

_LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


def build_app(engine: LiveEngine, config: ServerConfig) -> FastAPI:
    """The ASGI application that serves `engine`. It closes the engine when it stops.

    Raises ValueError where the state can't be opened.
    """
    state, doorkeeper, credentials = _open(config, engine.info.model)
    metrics, pictures, speech = Metrics(), PictureWriter(credentials), SpeechWriter(config, credentials)
    decoders = Decoders.of(config)
    meter = Meter(_limits(config, state, engine.info.model), state.usage, engine.info)
    answering = Answering(engine, config, metrics, meter)
    files = Files(config, state.store, state.objects)
    compactions = Compactions(state.sealer)
    responses = Responses(answering, config, decoders, state.store, state.presence, files, pictures, compactions)
    realtime = Realtime(engine, config, metrics, decoders, meter, pictures)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        configure_logging()
        await _warm_up(engine)
        app.state.ready = True
        yield
        app.state.ready = False
        realtime.close()
        await responses.close()
        decoders.close()
        await engine.close()
        await meter.close()
        await state.aclose()

    app = FastAPI(lifespan=lifespan, redirect_slashes=False, openapi_url=None)
    app.state.ready = False
    app.state.store, app.state.objects = state.store, state.objects
    app.state.keys_needed = doorkeeper.keys_needed
    for router in (
        Chat(answering, config, decoders, state.store, state.objects, files, pictures, speech).routes(),
        responses.routes(),
        files.routes(),
        Images(answering, config, decoders, files, pictures, PictureLinks(state.objects)).routes(),
        Conversations(config, state.store, compactions).routes(),
        Completions(answering, config, pictures).routes(),
        Embeddings(engine, config, metrics, meter).routes(),
        Speech(answering, config, meter, speech).routes(),
        Transcriptions(engine, answering, config, metrics, meter, decoders.media).routes(),
        realtime.routes(),
        model_routes(engine.info, config),
        UsageReports(state.usage, config.prices).routes(),
        Organization(state.keys, state.projects, config).routes(),
    ):
        app.include_router(router)
    _add_operations(app, metrics)
    if (config.playground / "index.html").is_file():
        app.frontend("/", directory=config.playground, fallback=None)

    _add_refusals(app)
    about = {"metrics": metrics, "model": engine.info.model, "client_secrets": realtime.client_secrets}
    app.add_middleware(Edge, config=config, doorkeeper=doorkeeper, **about)
    _add_cors(app, config)
    return app


def _credentials(config: ServerConfig, model: str) -> Credentials | None:
    """What pictures and sound files are signed with: kept with the server's state, or for as long as it runs."""
    if not config.content_credentials:
        return None
    if config.state is None:
        return Credentials(Identity.new(), model=model)
    folder = config.state / "credentials"
    try:
        return Credentials(Identity.kept_in(folder), model=model)
    except OSError as error:
        raise ValueError(f"no signing certificate can be kept in {folder}: {error.strerror}") from None


def _open(config: ServerConfig, model: str) -> tuple[State, Doorkeeper, Credentials | None]:
    state = State.open(config.state, database=config.database, objects=config.objects)
    try:
        return state, Doorkeeper.of(config, state), _credentials(config, model)
    except ValueError:
        state.close()
        raise


def _limits(config: ServerConfig, state: State, model: str) -> Limits:
    counters = InPostgres(state.database) if state.database.is_shared else None
    names = (model, *config.model_aliases)
    return Limits(config.limits, counters, names=names, used_this_month=state.usage.used_this_month)


async def _warm_up(engine: LiveEngine) -> None:
    """One short spoken answer: whatever is loaded, compiled or allocated on first use is ready after it."""
    prompt = [Message(role="user", parts=(Text(text="hi"),))]
    events = engine.generate(prompt, SamplingParams(modality="audio", voice=engine.info.voices[0], max_tokens=8))
    assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
    async with aclosing(events):
        async for _ in events:
            pass


def _add_cors(app: FastAPI, config: ServerConfig) -> None:
    """The outermost layer, so that a browser may read errors too."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.cors_origins,
        allow_origin_regex=_LOCAL_ORIGIN,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Request-ID", "Location", MANNER_HEADER],
    )


def _add_refusals(app: FastAPI) -> None:
    app.add_exception_handler(APIError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def _add_operations(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz(request: Request) -> Response:
        ready = request.app.state.ready
        return JSONResponse({"status": "ok" if ready else "starting"}, status_code=200 if ready else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.exposition(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, APIError)
    return error.response()


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_validation(error).response()


async def _http_error(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such URL, no such method."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    messages = {404: f"Invalid URL ({where})", 405: f"Not allowed: {where}"}
    message = messages.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of the first of a path's routes only
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return APIError(message, status=error.status_code, headers=headers).response()


def _allowed_methods(request: Request) -> list[str]:
    def is_answered(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    found = [method for method in ("GET", "POST", "DELETE") if is_answered(method)]
    return found or ["GET"]  # files of the playground have no route
