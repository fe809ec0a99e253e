"""Requests nearly right: whatever is wrong with them, the server says so in the envelope and stays up."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.server.chat_request import ChatRequest
from sensorium.server.responses_request import ResponseRequest
from tests.server.live import Live, envelope
from tests.server.samples import b64, data_url, picture, wav

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", "text", "audio", "user", "alloy", "wav", "auto", "http://[", "data:,", "\x00", "\u202e"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.sampled_from(
    [
        "hi",
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": data_url(picture())}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
        {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "status": "completed"},
        {"type": "item_reference", "id": "msg_1"},
    ]
)
TOOLS = st.sampled_from([{"type": "function", "name": "add"}, {"type": "image_generation"}])
PARTS = st.sampled_from(
    [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": data_url(picture())}},
        {"type": "input_audio", "input_audio": {"data": b64(wav(seconds=0.1)), "format": "wav"}},
        {"type": "refusal", "refusal": "no"},
    ]
)


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """A value with one thing in it replaced by something else, dropped, or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(damaged(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(damaged(value[index])), *value[index + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(st.text(max_size=6)): draw(JSON)}
    return draw(JSON)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
    messages = [
        {"role": draw(roles), "content": draw(st.text(max_size=5) | st.lists(PARTS, max_size=2))}
        for _ in range(draw(st.integers(1, 3)))
    ]
    request: dict[str, Any] = {"model": "gpt-4o", "messages": messages}
    for name in draw(st.lists(st.sampled_from(sorted(ChatRequest.model_fields)), max_size=3)):
        request.setdefault(name, draw(JSON))
    return draw(damaged(request) | st.just(request))


@st.composite
def asked_for_responses(draw: st.DrawFn) -> Any:
    request: dict[str, Any] = {"model": "gpt-4o", "input": draw(st.text(max_size=5) | st.lists(ITEMS, max_size=3))}
    if draw(st.booleans()):
        choices = ["auto", "required", "none", {"type": "function", "name": "add"}]
        request |= {"tools": draw(st.lists(TOOLS, max_size=2)), "tool_choice": draw(st.sampled_from(choices))}
    for name in draw(st.lists(st.sampled_from(sorted(ResponseRequest.model_fields)), max_size=3)):
        request.setdefault(name, draw(JSON))
    return draw(damaged(request) | st.just(request))


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"at": {"type": "string", "format": "date", "allOf": [{"minLength": 1}]}, "n": {"$ref": "#/$defs/n"}},
    "required": ["at", "n"],
    "minProperties": 2,
    "$defs": {"n": {"anyOf": [{"type": "integer", "multipleOf": 3, "minimum": 0}, {"type": "null"}]}},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}
NAMED = {"type": "function", "function": {"name": "f"}}
HELD: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
    "tools": [TOOL],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
    "logit_bias": {"3": 1.5},
    "logprobs": True,
    "top_logprobs": 2,
}


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged(HELD))
def test_no_schema_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/chat/completions", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests())
def test_no_request_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/chat/completions", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked_for_responses())
def test_no_request_for_a_response_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/responses", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)
