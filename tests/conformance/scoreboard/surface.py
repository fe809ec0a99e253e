"""How much of the published API there is: operations with a route, properties that are taken, properties that come.

A property is obeyed or ignored where a request with it is answered, and refused by name where the error says which
field was at fault. Ignored are those that the request's model says are "accepted and ignored": `user`, for one, asks
for nothing that an answer could show.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import httpx2

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig, build_app
from sensorium.server.chat_request import ChatRequest
from sensorium.server.client_secrets import ClientSecretRequest
from sensorium.server.completions import CompletionRequest
from sensorium.server.embeddings import EmbeddingRequest
from sensorium.server.responses_request import ResponseRequest
from sensorium.server.wire import Wire
from tests.conformance.scoreboard.spec import METHODS, SOURCE, read_names
from tests.server.live import live

Json = dict[str, Any]

_PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_FUNCTION = {"name": "f", "parameters": _PARAMETERS}
_TOOL = {"type": "function", "function": _FUNCTION}
_DOCUMENT = {"name": "d", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
_SPOKEN: Json = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
_MESSAGES = [{"role": "user", "content": "hi"}]

# The least that each operation takes.
LEAST: dict[str, Json] = {
    "/chat/completions": {"model": "gpt-4o", "messages": _MESSAGES},
    "/responses": {"model": "gpt-4o", "input": "hi"},
    "/completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"},
    "/embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "/realtime/client_secrets": {},
}
# A usual request with each property, with what it needs beside it.
WITH: dict[str, dict[str, Json]] = {
    "/chat/completions": {
        "audio": _SPOKEN,
        "function_call": {"functions": [_FUNCTION], "function_call": {"name": "f"}},
        "functions": {"functions": [_FUNCTION]},
        "modalities": _SPOKEN,
        "parallel_tool_calls": {"tools": [_TOOL], "parallel_tool_calls": False},
        "prediction": {"prediction": {"type": "content", "content": "hi"}},
        "reasoning_effort": {"reasoning_effort": "low"},
        "response_format": {"response_format": {"type": "json_schema", "json_schema": _DOCUMENT}},
        "tool_choice": {"tools": [_TOOL], "tool_choice": "required"},
        "tools": {"tools": [_TOOL]},
        "verbosity": {"verbosity": "low"},
    },
    "/responses": {
        "context_management": {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        "include": {"include": ["message.output_text.logprobs"]},
        "prompt": {"prompt": {"id": "pmpt_1"}},
        "reasoning": {"reasoning": {"effort": "low"}},
        "text": {"text": {"format": {"type": "json_schema", **_DOCUMENT}}},
        "tool_choice": {"tools": [{"type": "function", **_FUNCTION}], "tool_choice": "required"},
        "tools": {"tools": [{"type": "function", **_FUNCTION}]},
        "top_logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    },
    "/completions": {"best_of": {"best_of": 2}, "logprobs": {"logprobs": 2}},
    "/embeddings": {},
    "/realtime/client_secrets": {
        "expires_after": {"expires_after": {"anchor": "created_at", "seconds": 60}},
        "session": {"session": {"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief."}},
    },
}
SHARED: dict[str, Any] = {
    "background": True,
    "dimensions": 8,
    "echo": True,
    "encoding_format": "base64",
    "frequency_penalty": 0.5,
    "instructions": "Be brief.",
    "logit_bias": {"3": 1},
    "logprobs": True,
    "max_completion_tokens": 32,
    "max_output_tokens": 32,
    "max_tokens": 32,
    "max_tool_calls": 2,
    "metadata": {"a": "b"},
    "moderation": {"model": "omni-moderation-latest"},
    "n": 2,
    "parallel_tool_calls": True,
    "presence_penalty": 0.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "seed": 1,
    "service_tier": "default",
    "stop": ["."],
    "store": True,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "suffix": "end",
    "temperature": 0.5,
    "top_p": 0.9,
    "truncation": "auto",
    "user": "u",
    "web_search_options": {},
}
MODELS: dict[str, type[Wire]] = {
    "/chat/completions": ChatRequest,
    "/responses": ResponseRequest,
    "/completions": CompletionRequest,
    "/embeddings": EmbeddingRequest,
    "/realtime/client_secrets": ClientSecretRequest,
}
_NEEDS: dict[str, Json] = {"stream_options": {"stream": True}, "top_logprobs": {"logprobs": True, "top_logprobs": 2}}


def run() -> Json:
    names = read_names()
    with live() as server:
        properties = {
            operation: _probed(server.http, operation, wanted) for operation, wanted in names["properties"].items()
        }
    return {"source": SOURCE, "operations": _operations(names["operations"]), "properties": properties}


def routes() -> set[str]:
    """The application's operations, as `method path`, without what paths are named by."""
    paths = build_app(FakeEngine(), ServerConfig()).openapi()["paths"]
    return {f"{method} {_bare(path)}" for path, item in paths.items() for method in METHODS if method in item}


def _bare(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path.removeprefix("/v1"))


def _operations(published: list[str]) -> Json:
    ours = routes()
    by_area: dict[str, list[int]] = {}
    missing: list[str] = []
    for operation in published:
        method, path = operation.split()
        area = by_area.setdefault(
            "/".join(path.split("/")[1:3]) if "/organization" in path else path.split("/")[1], [0, 0]
        )
        there = f"{method} {_bare(path)}" in ours
        area[0] += there
        area[1] += 1
        if not there:
            missing.append(operation)
    return {"there": len(published) - len(missing), "published": len(published), "areas": by_area}


def _probed(http: httpx2.Client, operation: str, wanted: Json) -> Json:
    path = operation.split()[1]
    found: dict[str, list[str]] = {"obeyed": [], "ignored": [], "refused by name": [], "refused otherwise": []}
    idle = ignored(MODELS[path])
    seen: set[str] = set()
    for name in wanted["request"]:
        request = {**LEAST[path], **_asking(http, path, name)}
        response = http.post(f"/v1{path}", json=request)
        if response.status_code == 200:
            found["ignored" if name in idle else "obeyed"].append(name)
            if "application/json" in response.headers["content-type"]:
                seen.update(_paths(response.json()))
        else:
            at_fault = (response.json()["error"]["param"] or "").split(".")[0].split("[")[0]
            found["refused by name" if at_fault == name else "refused otherwise"].append(name)
    there = [path for path in wanted["response"] if path in seen]
    missing = [path for path in wanted["response"] if path not in seen]
    return {
        "request": found,
        "response": {"there": len(there), "published": len(wanted["response"]), "missing": missing},
    }


def ignored(model: type[Wire]) -> set[str]:
    """The fields that the model's own comments say are accepted and ignored: on their line, or in a block below."""
    found: set[str] = set()
    for part in model.__mro__:
        if not issubclass(part, Wire) or part is Wire:
            continue
        is_block = False
        for line in inspect.getsource(part).splitlines():
            says_so = "accepted and ignored" in line
            is_block = (is_block or (says_so and line.strip().startswith("#"))) and bool(line.strip())
            field = re.match(r"    (\w+): ", line)
            if field and (is_block or says_so):
                found.add(field[1])
    return found


def _asking(http: httpx2.Client, path: str, name: str) -> Json:
    if name in LEAST[path]:
        return {}
    if name in WITH[path]:
        return WITH[path][name]
    if name == "previous_response_id":
        return {name: http.post("/v1/responses", json=LEAST["/responses"]).json()["id"]}
    if name == "conversation":
        return {name: http.post("/v1/conversations", json={}).json()["id"]}
    return _NEEDS.get(name, {}) | {name: SHARED.get(name, _NEEDS.get(name, {}).get(name))}


def _paths(value: Any, before: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, f"{before}[]")
    if isinstance(value, dict):
        for name, inner in value.items():
            path = f"{before}.{name}" if before else name
            yield path
            yield from _paths(inner, path)
