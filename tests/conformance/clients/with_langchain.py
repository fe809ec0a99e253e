"""LangChain against a server: `with_langchain.py BASE_URL` prints what came of it as JSON."""

# pyright: reportMissingImports=false, reportFunctionMemberAccess=false
from __future__ import annotations

import json
import sys
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class Order(BaseModel):
    drink: str
    count: int


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def converse(model: Any) -> dict[str, Any]:
    chunks = list(model.stream("hi"))
    asked = HumanMessage('call add {"a": 2, "b": 3}')
    with_tool = model.bind_tools([add])
    called = with_tool.invoke([asked])
    results = [ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"]) for call in called.tool_calls]
    seen = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    said = model.invoke("hi")
    return {
        "said": said.text,
        "usage": said.usage_metadata["total_tokens"],
        "streamed": whole.text,
        "pieces": len(chunks),
        "streamed usage": (whole.usage_metadata or {}).get("total_tokens"),
        "calls": [(call["name"], call["args"]) for call in called.tool_calls],
        "after the tool": with_tool.invoke([asked, called, *results]).text,
        "document": model.with_structured_output(Order).invoke("an order").model_dump(),
        "seen": model.invoke([HumanMessage(seen)]).text,
        "batch": [answer.text for answer in model.batch(["hi", "ho"])],
    }


def main(base_url: str) -> None:
    about: dict[str, Any] = {"base_url": base_url, "api_key": "sk-x", "max_retries": 0}
    model = ChatOpenAI(model="gpt-4o", stream_usage=True, **about)
    responses = ChatOpenAI(model="gpt-4o", use_responses_api=True, **about)
    # token ids would be counted by a table that is fetched from the network
    embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False, **about)
    vectors = embeddings.embed_documents(["hi", "ho"])
    seen = {"chat": converse(model), "responses": converse(responses), "vectors": [len(vector) for vector in vectors]}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
