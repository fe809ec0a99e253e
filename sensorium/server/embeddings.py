"""POST /v1/embeddings: texts as vectors, as the network understands them."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from pydantic import Discriminator, Field, Tag

from sensorium.engine.request import Embedding, LiveEngine, Usage
from sensorium.server.answering import in_time
from sensorium.server.body import read_json
from sensorium.server.chat_request import check_model
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, validated
from sensorium.server.metering import Meter
from sensorium.server.metrics import Metrics
from sensorium.server.wire import TaggedStr, Wire

ROUTE = "/v1/embeddings"
MAX_INPUTS = 2048
_CHARS_PER_TOKEN = 4  # about so many; a token that comes as such counts less, until what was used is known

Json = dict[str, Any]
_Token: TypeAlias = Annotated[int, Field(ge=0)]
_Tokens: TypeAlias = Annotated[list[_Token], Field(min_length=1)]


def _input_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    first = value[0] if isinstance(value, list) and value else None
    return {int: "<tokens>", list: "<token lists>"}.get(type(first), "<texts>")


Input: TypeAlias = Annotated[
    TaggedStr
    | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS), Tag("<texts>")]
    | Annotated[_Tokens, Tag("<tokens>")]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_INPUTS), Tag("<token lists>")],
    Discriminator(_input_kind),
]


class EmbeddingRequest(Wire):
    model: str
    input: Input
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None  # accepted and ignored

    @property
    def texts(self) -> list[str | list[int]]:
        if isinstance(self.input, str):
            return [self.input]
        is_one_of_tokens = isinstance(self.input[0], int)
        return [self.input] if is_one_of_tokens else list(self.input)  # pyright: ignore[reportReturnType]

    def param(self, index: int) -> str:
        """What a client knows text number `index` by."""
        is_one = isinstance(self.input, str) or isinstance(self.input[0], int)
        return "input" if is_one else f"input[{index}]"


class Embeddings:
    def __init__(self, engine: LiveEngine, config: ServerConfig, metrics: Metrics, meter: Meter) -> None:
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._meter = meter

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        return router

    async def create(self, http: Request) -> Response:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = validated(EmbeddingRequest, body)
        check_model(request.model, self._engine.info, self._config, param="model")
        self._check(request)
        tokens = sum(math.ceil(len(text) / _CHARS_PER_TOKEN) for text in request.texts)
        async with await self._meter.begin(http.state, request.model, tokens=tokens, kind="embeddings") as charge:
            embedding = self._engine.embed(request.texts)
            found = await in_time(embedding, self._config, received_s=received_s, param=request.param)
            usage = Usage(input_text=sum(embedding.num_tokens for embedding in found))
            charge.add(usage)
        self._metrics.count_tokens(usage)
        http.state.log["input_tokens"] = usage.input_tokens
        body = await asyncio.to_thread(self._body, request, found, usage)
        return Response(body, media_type="application/json")

    def _check(self, request: EmbeddingRequest) -> None:
        size = self._engine.info.embedding_size
        if request.dimensions and request.dimensions > size:
            message = f"Invalid 'dimensions': this model's embeddings have {size}."
            raise invalid(message, "dimensions", "integer_above_max_value")
        num_tokens = self._engine.info.num_text_tokens
        for index, text in enumerate(request.texts):
            if not text:
                raise invalid("An empty text has no embedding.", request.param(index))
            if not isinstance(text, str) and max(text) >= num_tokens:
                raise invalid(f"This model's tokens are 0 to {num_tokens - 1}.", request.param(index))

    def _body(self, request: EmbeddingRequest, found: list[Embedding], usage: Usage) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(embedding.vector, request)}
            for index, embedding in enumerate(found)
        ]
        spent = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
        return pydantic_core.to_json({"object": "list", "data": data, "model": self._engine.info.model, "usage": spent})


def _encoded(vector: np.ndarray, request: EmbeddingRequest) -> list[float] | str:
    """Cut to the dimensions asked for, at length 1 again; base64 is of float32, little-endian."""
    cut = vector[: request.dimensions].astype(np.float64)
    cut = (cut / max(float(np.linalg.norm(cut)), 1e-12)).astype("<f4")
    return base64.b64encode(cut.tobytes()).decode() if request.encoding_format == "base64" else cut.tolist()
