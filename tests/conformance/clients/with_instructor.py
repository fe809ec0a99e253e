"""Instructor against a server, in each of its ways to ask for an object: `with_instructor.py BASE_URL` prints JSON."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
from typing import Any, Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel

MODES = tuple(instructor.Mode[name] for name in ("TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "RESPONSES_TOOLS"))


class Order(BaseModel):
    drink: Literal["tea", "coffee"]
    count: int


def main(base_url: str) -> None:
    seen: dict[str, Any] = {}
    for mode in MODES:
        client = instructor.from_openai(OpenAI(base_url=base_url, api_key="sk-x", max_retries=0), mode=mode)
        asked: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "an order"}]}
        try:
            order = client.create(response_model=Order, max_retries=0, **asked)
            parts = list(client.create_partial(response_model=Order, max_retries=0, **asked))
            seen[mode.value] = {"order": order.model_dump(), "last part": parts[-1].model_dump()}
        except Exception as error:
            seen[mode.value] = {"error": f"{type(error).__name__}: {error}"[:400]}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
