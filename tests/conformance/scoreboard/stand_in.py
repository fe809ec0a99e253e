"""Makes the ids that somebody else's tests have made up stand for things that are there.

The official client's own tests ask for `completion_id` and `conv_123`, which no server has. This layer, around the
application and nowhere in the product, makes a fresh thing of the kind for every such request and puts its id in place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

Json = dict[str, Any]


class Kind(NamedTuple):
    at: str  # where things of this kind are made; an id follows it
    body: Json


_SAID = {"role": "user", "content": "hi"}
_PROJECT = "/v1/organization/projects"
KINDS = (
    Kind("/v1/chat/completions", {"model": "gpt-4o", "messages": [_SAID], "store": True}),
    Kind("/v1/responses", {"model": "gpt-4o", "input": "hi", "background": True}),
    Kind("/v1/conversations", {"items": [_SAID]}),
    Kind("/v1/conversations/{}/items", {"items": [_SAID]}),
    Kind("/v1/organization/admin_api_keys", {"name": "conformance"}),
    Kind(_PROJECT, {"name": "conformance"}),
    Kind(f"{_PROJECT}/{{}}/service_accounts", {"name": "conformance"}),
    Kind(f"{_PROJECT}/{{}}/api_keys", {}),  # made with a service account
)
_NO_IDS = {"input_tokens", "compact"}  # what may follow instead of an id


class StandIn:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = await self._real(scope["path"])
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)

    async def _real(self, path: str) -> str:
        """The path with every made-up id in it replaced, from left to right."""
        done: list[str] = []
        for segment in path.split("/"):
            kind = self._kind("/".join(done))
            done.append(await self._make(kind, "/".join(done)) if kind and segment not in _NO_IDS else segment)
        return "/".join(done)

    def _kind(self, before: str) -> Kind | None:
        parts = before.split("/")
        for kind in KINDS:
            wanted = kind.at.split("/")
            if len(wanted) == len(parts) and all(a in ("{}", b) for a, b in zip(wanted, parts, strict=True)):
                return kind
        return None

    async def _make(self, kind: Kind, at: str) -> str:
        if not kind.body:
            account = await self._post(at.removesuffix("api_keys") + "service_accounts", {"name": "conformance"})
            return account["api_key"]["id"]
        made = await self._post(at, kind.body)
        return made["data"][0]["id"] if "data" in made else made["id"]

    async def _post(self, at: str, body: Json) -> Json:
        response = await self._http.post(at, json=body)
        assert response.status_code == 200, response.text
        return response.json()
