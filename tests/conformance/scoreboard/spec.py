"""The published OpenAPI description of OpenAI's API, reduced to names: operations, and properties of a few of them.

    python -m tests.conformance.scoreboard.spec openapi.yaml        writes openapi_names.json

The description itself is large and stays where it is: openai/openai-openapi (MIT), version 2.3.0 at commit f85dbe2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = Path(__file__).with_name("openapi_names.json")
SOURCE = "https://github.com/openai/openai-openapi at f85dbe2, version 2.3.0, MIT licence"
METHODS = ("get", "post", "put", "patch", "delete")
DETAILED = ("/chat/completions", "/responses", "/completions", "/embeddings", "/realtime/client_secrets")
_DEPTH = 4

Json = dict[str, Any]


def read_names() -> Json:
    return json.loads(NAMES.read_text())


def names_of(document: Json) -> Json:
    """Operations as `method path`; of some, what a request may hold and what an answer may."""
    operations = [
        f"{method} {path}"
        for path, item in document["paths"].items()
        if "?" not in path  # a beta that is told by its query has the path of the other
        for method in METHODS
        if method in item
    ]
    properties = {}
    for path in DETAILED:
        operation = document["paths"][path]["post"]
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        response = operation["responses"]["200"]["content"]["application/json"]["schema"]
        properties[f"post {path}"] = {
            "request": sorted({name for name, _ in _properties(document, request)}),
            "response": sorted(_paths(document, response, _DEPTH)),
        }
    return {"source": SOURCE, "operations": sorted(operations), "properties": properties}


def _resolved(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def _properties(document: Json, schema: Json) -> Iterator[tuple[str, Json]]:
    schema = _resolved(document, schema)
    yield from schema.get("properties", {}).items()
    for part in schema.get("allOf", ()):
        yield from _properties(document, part)


def _one_of_many(document: Json, schema: Json) -> Json | None:
    """A schema without the null that it may be instead; None where it may be several things."""
    schema = _resolved(document, schema)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if not choices:
        return schema
    real = [choice for choice in choices if choice.get("type") != "null"]
    return _one_of_many(document, real[0]) if len(real) == 1 else None


def _paths(document: Json, schema: Json, depth: int, before: str = "") -> Iterator[str]:
    """Every property of an answer, as in `choices[].message.content`; what may be several things is not gone into."""
    single = _one_of_many(document, schema)
    if single is None or not depth:
        return
    if "items" in single:
        yield from _paths(document, single["items"], depth, f"{before}[]")
    for name, inner in _properties(document, single):
        path = f"{before}.{name}" if before else name
        yield path
        yield from _paths(document, inner, depth - 1, path)


def main(path: str) -> None:
    import yaml

    document = yaml.load(Path(path).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    NAMES.write_text(json.dumps(names_of(document), indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
