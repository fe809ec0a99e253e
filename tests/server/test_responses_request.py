"""What POST /v1/responses refuses by name, and what changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.live import Live
from tests.server.test_responses import DRAW, refusal, respond


@pytest.mark.parametrize(
    "field",
    [
        {"service_tier": "flex"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prompt_cache_options": {}},
        {"moderation": {}},
        {"reasoning": {"effort": "low", "summary": "auto"}},
        {"text": {"format": {"type": "text"}, "verbosity": "low"}},
        {"include": ["reasoning.encrypted_content", "message.input_image.image_url"]},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"top_logprobs": 0},
        {"stream": False, "truncation": "disabled"},
        dict.fromkeys(("temperature", "top_p", "tools", "text", "metadata", "stream", "max_output_tokens", "include")),
    ],
)
def test_fields_that_change_nothing_are_accepted(server: Live, field: dict[str, Any]):
    respond(server, "hi", **field)


def user(*content: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    ("field", "param", "code"),
    [
        ({"surprise": 1}, "surprise", "unknown_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": 3}, "input", "invalid_type"),
        ({"modalities": ["text", "audio"]}, "modalities", "unknown_parameter"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "unknown_parameter"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "string", "pattern": "(?=a)"}}}},
         "text.format.schema", "unsupported_value"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema",
         "missing_required_parameter"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
        ({"max_tool_calls": -1}, "max_tool_calls", "integer_below_min_value"),
        ({"max_tool_calls": 0, "tools": [DRAW], "tool_choice": DRAW}, "max_tool_calls", "invalid_value"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_value"),
        ({"context_management": [{}]}, "context_management", "unsupported_value"),
        ({"truncation": "some"}, "truncation", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{**DRAW, "quality": "best"}]}, "tools[0].quality", "invalid_value"),
        ({"tools": [{**DRAW, "size": "1000x1000"}]}, "tools[0].size", "unsupported_value"),
        ({"tools": [{**DRAW, "background": "transparent", "output_format": "jpeg"}]}, "tools[0].background",
         "invalid_value"),
        ({"tools": [{**DRAW, "output_compression": 50}]}, "tools[0].output_compression", "invalid_value"),
        ({"tools": [{**DRAW, "input_image_mask": {}}]}, "tools[0].input_image_mask", "invalid_value"),
        ({"tools": [{**DRAW, "action": "edit"}]}, "tools[0].action", "invalid_value"),
        ({"tools": [{**DRAW, "partial_images": 4}]}, "tools[0].partial_images", "integer_above_max_value"),
        ({"tools": [{**DRAW, "model": "gpt-9"}]}, "tools[0].model", "model_not_found"),
        ({"tools": [DRAW, DRAW]}, "tools", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "any"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "add"}}, "tool_choice.name", "invalid_value"),
        ({"tool_choice": {"type": "image_generation"}}, "tool_choice.type", "invalid_value"),
        ({"tools": [DRAW], "tool_choice": {"type": "image_generation"}, "text": {"format": {"type": "json_object"}}},
         "text.format", "invalid_value"),
        ({"input": [{"role": "bogus", "content": "hi"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input[0].type", "invalid_value"),
        (user({"type": "output_text", "text": "hi"}), "input[0].content[0].type", "invalid_value"),
        (user({"type": "input_text"}), "input[0].content[0].text", "missing_required_parameter"),
        (user({"type": "input_image"}), "input[0].content[0].image_url", "missing_required_parameter"),
        (user({"type": "input_image", "image_url": "data:,", "detail": "original"}), "input[0].content[0].detail",
         "unsupported_value"),
        (user({"type": "input_image", "image_url": "data:,"}), "input[0].content[0].image_url", "invalid_image_url"),
        (user({"type": "input_file", "file_url": "http://x/a"}), "input[0].content[0].file_url", "unsupported_value"),
        (user({"type": "input_file", "file_data": "data:,", "detail": "best"}), "input[0].content[0].detail",
         "invalid_value"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "3"}]}, "input[0].call_id",
         "invalid_value"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(server: Live, field: dict[str, Any], param: str, code: str):
    assert refusal(server, status=404 if code == "model_not_found" else 400, **field) == (param, code)


def test_an_unknown_model(server: Live):
    assert refusal(server, model="gpt-9", status=404) == ("model", "model_not_found")
