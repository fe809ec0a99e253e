"""LiteLLM against a server: `with_litellm.py BASE_URL` prints what came of it as JSON."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the list of prices is fetched from the network

import litellm
from pydantic import BaseModel

litellm.telemetry = False


class Order(BaseModel):
    drink: str
    count: int


TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def main(base_url: str) -> None:
    about: dict[str, Any] = {"api_base": base_url, "api_key": "sk-x", "max_retries": 0}
    model = "openai/gpt-4o"
    hi = [{"role": "user", "content": "hi"}]
    said = litellm.completion(model=model, messages=hi, **about)
    streamed = list(
        litellm.completion(model=model, messages=hi, stream=True, stream_options={"include_usage": True}, **about)
    )
    asked = {"role": "user", "content": 'call add {"a": 2, "b": 3}'}
    called = litellm.completion(model=model, messages=[asked], tools=[TOOL], **about).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "5"} for call in called.tool_calls]
    after = litellm.completion(model=model, messages=[asked, called.model_dump(), *results], tools=[TOOL], **about)
    document = litellm.completion(model=model, messages=hi, response_format=Order, **about).choices[0].message.content
    embedded = litellm.embedding(model="openai/text-embedding-3-small", input=["hi", "ho"], **about)
    answer = litellm.responses(model=model, input="hi", **about)
    events = [event.type for event in litellm.responses(model=model, input="hi", stream=True, **about)]
    seen = {
        "said": said.choices[0].message.content,
        "usage": said.usage.total_tokens,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices),
        "pieces": len(streamed),
        "calls": [(call.function.name, json.loads(call.function.arguments)) for call in called.tool_calls],
        "after the tool": after.choices[0].message.content,
        "document": Order.model_validate_json(document).model_dump(),
        "vectors": [len(item["embedding"]) for item in embedded.data],
        "response": answer.output[0].content[0].text,
        "first and last event": [str(getattr(kind, "value", kind)) for kind in (events[0], events[-1])],
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
