"""GET /v1/models and /v1/models/{id}: the served model, under its own name and every name it answers to.

A model that is asked for by name also says in `sensorium` what a page has to know before it offers it: the voices, the
manners of speaking, whether speakers are told apart.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from sensorium.engine.request import EngineInfo
from sensorium.server.chat_request import check_model
from sensorium.server.config import ServerConfig
from sensorium.server.speech import manners


def model_routes(info: EngineInfo, config: ServerConfig) -> APIRouter:
    router = APIRouter()
    abilities = {"voices": list(info.voices), "manners": manners(info), "speakers": info.knows_speakers}

    def body(id: str) -> dict[str, Any]:
        return {"id": id, "object": "model", "created": info.created, "owned_by": "sensorium"}

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        names = dict.fromkeys((info.model, *config.model_aliases))
        return {"object": "list", "data": [body(name) for name in names]}

    @router.get("/v1/models/{model:path}")  # ids of fine-tuned models hold colons, those of hubs hold slashes
    async def retrieve_model(model: str) -> dict[str, Any]:
        check_model(model, info, config, param="model")
        return body(model) | {"sensorium": abilities}

    return router
