from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest

from sensorium.engine.request import ANY_OBJECT
from sensorium.server.chat_request import ChatRequest
from sensorium.server.chat_sampling import NO_ARGUMENTS
from tests.server.live import Live, live
from tests.serving import ROOT

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]


def held(schema: Any, **fields: Any) -> dict[str, Any]:
    """The field that holds an answer to a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, **fields}}}


def strict(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "add", "parameters": parameters, "strict": True}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


def asked(server: Live, **fields: Any):
    response = server.chat(**fields)
    assert response.status_code == 200, response.text
    return server.engine.requests[-1]


def test_sampling_fields_reach_the_engine(server: Live):
    fields = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["x", "y"], "max_completion_tokens": 5}
    params = asked(server, **fields).params
    assert (params.temperature, params.top_p, params.seed, params.stop, params.max_tokens) == (
        0.5,
        0.9,
        7,
        ("x", "y"),
        5,
    )
    assert (params.modality, params.voice) == ("text", "alloy")
    assert asked(server, stop="x", max_tokens=3, temperature=1).params.stop == ("x",)
    assert asked(server, seed=-3).params.seed >= 0


def test_absent_and_null_fields_take_the_defaults(server: Live):
    nulls = dict.fromkeys(("temperature", "top_p", "n", "stop", "max_tokens", "modalities", "audio", "stream", "tools"))
    first, second = asked(server, **nulls).params, asked(server).params
    assert (first.temperature, first.top_p, first.max_tokens, first.stop) == (0.0, 1.0, None, ())
    assert first.seed != second.seed  # warm answers differ unless a seed is given


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        ({}, 0.0),
        ({"top_p": 1, "n": 1}, 0.0),
        ({"top_p": 0.9}, 1.0),
        ({"top_p": 0}, 1.0),
        ({"n": 2}, 1.0),
        ({"n": 2, **SPOKEN}, 1.0),
        ({"n": 2, "top_p": 0.5, "temperature": 0}, 0.0),
        ({"n": 2, "temperature": 0.3}, 0.3),
    ],
)
def test_a_request_that_needs_dice_gets_them(server: Live, fields: dict[str, Any], temperature: float):
    assert asked(server, **fields).params.temperature == temperature


def test_choices_differ_without_a_temperature(server: Live):
    contents = [choice["message"]["content"] for choice in server.chat(n=2).json()["choices"]]
    assert contents[0] != contents[1]


def test_each_choice_has_a_seed_of_its_own(server: Live):
    response = server.chat(n=2, seed=7, temperature=1.0)
    contents = [choice["message"]["content"] for choice in response.json()["choices"]]
    assert contents == ['You said "hi". Seed 7.', 'You said "hi". Seed 8.']


@pytest.mark.parametrize(
    ("voice", "spoken_by"), [("sage", "sage"), ("marin", "coral"), ("cedar", "ash"), ("nova", "shimmer")]
)
def test_every_voice_of_openai_has_a_speaker(server: Live, voice: str, spoken_by: str):
    params = asked(server, **{**SPOKEN, "audio": {"voice": voice, "format": "wav"}}).params
    assert (params.modality, params.voice) == ("audio", spoken_by)


@pytest.mark.parametrize(
    "field",
    [
        {"user": "u"},
        {"safety_identifier": "s"},
        {"prompt_cache_key": "k"},
        {"prompt_cache_retention": "24h"},
        {"service_tier": "flex"},
        {"verbosity": "low"},
        {"reasoning_effort": "minimal"},
        {"web_search_options": {}},
        {"prediction": {"type": "content", "content": "hi"}},
        {"store": False},
        {"logprobs": False, "top_logprobs": 0},
        {"logit_bias": {}},
        {"frequency_penalty": 0, "presence_penalty": 0.0},
        {"response_format": {"type": "text"}},
        {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True},
    ],
)
def test_fields_that_change_nothing_are_accepted(server: Live, field: dict[str, Any]):
    assert server.chat(**field).status_code == 200


def test_the_guide_names_what_is_without_effect():
    listed = re.findall(r"`(\w+)`", (ROOT / "docs" / "guides" / "talking.md").read_text().split("\n\n")[2])
    source = inspect.getsource(ChatRequest).split("# accepted and ignored")[1].split("@property")[0]
    assert sorted(listed) == sorted(re.findall(r"^    (\w+):", source, re.M))


@pytest.mark.parametrize(
    ("field", "param", "code"),
    [
        ({"surprise": 1}, "surprise", "unknown_parameter"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": -1}, "top_p", "decimal_below_min_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"n": 9}, "n", "integer_above_max_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_value"),
        ({"seed": 2**70}, "seed", "integer_above_max_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
        ({"stop": 3}, "stop", "invalid_type"),
        ({"stop": ["a", 3]}, "stop[1]", "invalid_type"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"modalities": []}, "modalities", "empty_array"),
        ({"modalities": ["video"]}, "modalities[0]", "invalid_value"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_value"),
        ({"modalities": ["text", "audio"]}, "audio", "missing_required_parameter"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "invalid_value"),
        ({**SPOKEN, "audio": {"voice": "alloy"}}, "audio.format", "missing_required_parameter"),
        ({**SPOKEN, "audio": {"voice": "alloy", "format": "ogg"}}, "audio.format", "invalid_value"),
        ({**SPOKEN, "audio": {"voice": "hal", "format": "wav"}}, "audio.voice", "invalid_value"),
        ({**SPOKEN, "audio": {"voice": {"id": "voice_1"}, "format": "wav"}}, "audio.voice", "unsupported_value"),
        ({**SPOKEN, "stream": True}, "audio.format", "unsupported_value"),
        ({"frequency_penalty": 3}, "frequency_penalty", "decimal_above_max_value"),
        ({"presence_penalty": "1"}, "presence_penalty", "invalid_type"),
        ({"logit_bias": {"256": -100}}, "logit_bias.256", "invalid_value"),  # this engine's tokens are bytes
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1", "invalid_value"),
        ({"logit_bias": {"foo": 0}}, "logit_bias.foo", "invalid_value"),
        ({"logit_bias": {"9" * 5000: 0}}, "logit_bias." + "9" * 64, "invalid_value"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7", "decimal_above_max_value"),
        ({"top_logprobs": 5}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value"),
        ({**SPOKEN, "logprobs": True}, "logprobs", "unsupported_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (held({}, name="a b"), "response_format.json_schema.name", "invalid_value"),
        (held({"not": {}}), "response_format.json_schema.schema", "unsupported_value"),
        (held({"not": {}}, strict=False), "response_format.json_schema.schema", "unsupported_value"),
        (held({"$ref": "#"}), "response_format.json_schema.schema", "unsupported_value"),
        (held([]), "response_format.json_schema.schema", "invalid_type"),
        ({**SPOKEN, "response_format": {"type": "json_object"}}, "response_format.type", "unsupported_value"),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65 + ".[key]", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "object_above_max_properties"),
        ({"functions": [FUNCTION], "tools": TOOLS}, "functions", "invalid_value"),
        ({"functions": []}, "functions", "empty_array"),
        ({"functions": [FUNCTION], "function_call": {"name": "sub"}}, "function_call", "invalid_value"),
        ({"functions": [FUNCTION], "function_call": "perhaps"}, "function_call", "invalid_value"),
        ({"function_call": "auto"}, "function_call", "invalid_value"),
        ({"functions": [FUNCTION], "tool_choice": "auto"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", "invalid_value"),
        ({**SPOKEN, "stop": ["three"]}, "stop", "unsupported_value"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"tools": TOOLS, "tool_choice": named("sub")}, "tool_choice", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom"}}, "tool_choice.type", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": 3}, "tool_choice.type", "missing_required_parameter"),
        ({"tools": TOOLS, "tool_choice": allowed("auto", "add", "sub")}, "tool_choice", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("none", "add")}, "tool_choice.allowed_tools.mode", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools", "empty_array"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [strict({"not": {}})]}, "tools[0].function.parameters", "unsupported_value"),
        ({"service_tier": "gold"}, "service_tier", "invalid_value"),
    ],
)
def test_every_bad_or_unsupported_field_is_named(server: Live, field: dict[str, Any], param: str, code: str):
    assert server.refusal(**field) == (param, code)


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([], "messages", "empty_array"),
        ("hi", "messages", "invalid_type"),
        ([3], "messages[0].role", "missing_required_parameter"),
        ([{"content": "hi"}], "messages[0].role", "missing_required_parameter"),
        ([{"role": "king", "content": "hi"}], "messages[0].role", "invalid_value"),
        ([{"role": "function", "content": "hi"}], "messages[0].name", "missing_required_parameter"),
        ([{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "user", "content": None}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": []}], "messages[0].content", "empty_array"),
        ([{"role": "user", "content": [{"type": "film", "film": {}}]}], "messages[0].content[0].type", "invalid_value"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ([{"role": "user", "content": "hi", "mood": "good"}], "messages[0].mood", "unknown_parameter"),
        ([{"role": "system", "content": [{"type": "image_url"}]}], "messages[0].content[0].type", "invalid_value"),
        ([{"role": "assistant"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "assistant", "audio": {"id": "audio_x"}}], "messages[0].audio.id", "invalid_value"),
        ([{"role": "tool", "content": "3"}], "messages[0].tool_call_id", "missing_required_parameter"),
        ([{"role": "tool", "content": "3", "tool_call_id": "call_x"}], "messages[0].tool_call_id", "invalid_value"),
    ],
)
def test_bad_messages_are_named(server: Live, messages: Any, param: str, code: str):
    assert server.refusal(messages=messages) == (param, code)


def test_model_and_messages_are_needed(server: Live):
    assert server.http.post("/v1/chat/completions", json={}).json()["error"]["param"] == "model"
    assert server.http.post("/v1/chat/completions", json={"model": "gpt-4o"}).json()["error"]["param"] == "messages"
    assert server.refusal(status=404, model="gpt-9") == (None, "model_not_found")
    assert server.chat(model=server.engine.info.model).json()["model"] == server.engine.info.model


def test_an_over_long_prompt_is_a_400_streamed_or_not():
    from sensorium.engine.fake import FakeEngine

    with live(FakeEngine(max_tokens=5)) as server:
        for stream in (False, True):
            assert server.refusal("one two three four five six", stream=stream) == (
                "messages",
                "context_length_exceeded",
            )
        assert server.chat("short").status_code == 200


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, "none"),
        ({"tools": TOOLS}, "auto"),
        ({"tools": TOOLS, "tool_choice": "auto"}, "auto"),
        ({"tools": TOOLS, "tool_choice": "none"}, "none"),
        ({"tools": TOOLS, "tool_choice": "required"}, "required"),
        ({"tools": TOOLS, "tool_choice": named("add")}, "required"),
        ({"tools": TOOLS, "tool_choice": allowed("auto", "add")}, "auto"),
        ({"tools": TOOLS, "tool_choice": allowed("required", "add")}, "required"),
        ({"functions": [FUNCTION]}, "auto"),
        ({"functions": [FUNCTION], "function_call": "none"}, "none"),
        ({"functions": [FUNCTION], "function_call": {"name": "add"}}, "required"),
    ],
)
def test_tool_choice_reaches_the_engine(fields: dict, policy: str):
    request = ChatRequest.model_validate({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **fields})
    assert request.call_policy == policy


def test_what_shapes_and_scores_tokens_reaches_the_engine(server: Live):
    fields = {"frequency_penalty": 0.5, "presence_penalty": -2, "logit_bias": {"7": 100, "255": -0.5}}
    params = asked(server, logprobs=True, top_logprobs=3, **fields).params
    assert (params.frequency_penalty, params.presence_penalty) == (0.5, -2.0)
    assert (params.token_bias, params.top_logprobs) == (((7, 100.0), (255, -0.5)), 3)
    assert asked(server, logprobs=True).params.top_logprobs == 0
    plain = asked(server, logprobs=False).params
    assert (plain.top_logprobs, plain.token_bias, plain.frequency_penalty) == (None, (), 0.0)


def test_schemas_reach_the_engine(server: Live):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert json.loads(asked(server, **held(schema)).params.document or "") == schema
    assert json.loads(asked(server, **held(schema, strict=True, description="An a.")).params.document or "") == schema
    assert asked(server, response_format={"type": "json_object"}).params.document == ANY_OBJECT
    assert asked(server, response_format={"type": "text"}).params.document is None


def test_functions_reach_the_engine(server: Live):
    other = {"type": "function", "function": {"name": "sub"}}
    vague = {"type": "function", "function": {"name": "mul", "parameters": {"not": {}}}}
    tools = [*TOOLS, other, vague]
    params = asked(server, tools=tools).params
    assert [function.name for function in params.functions] == ["add", "sub", "mul"]
    assert params.functions[1].parameters == NO_ARGUMENTS
    assert params.functions[2].parameters == ANY_OBJECT  # what cannot be kept to is not promised
    assert params.max_calls is None
    assert asked(server, tools=tools, parallel_tool_calls=False).params.max_calls == 1
    for choice in (named("sub"), allowed("auto", "sub")):
        assert [function.name for function in asked(server, tools=tools, tool_choice=choice).params.functions] == [
            "sub"
        ]
    assert asked(server, tools=tools, tool_choice="none").params.functions == ()
    old = asked(server, functions=[FUNCTION]).params
    assert ([function.name for function in old.functions], old.max_calls) == (["add"], 1)


def test_a_refused_schema_is_told_with_its_reason(server: Live):
    response = server.chat(**held({"type": "array", "uniqueItems": True}))
    assert "uniqueItems" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        (
            "chat/completions",
            {"tools": TOOLS, "tool_choice": {"type": "custom"}},
            "Invalid value for 'tool_choice.type': supported values are 'function', 'allowed_tools'.",
        ),
        (
            "responses",
            {"input": "hi", "tool_choice": {"type": "mcp"}},
            "'tool_choice.type': supported values are 'function', 'image_generation', 'allowed_tools'.",
        ),
        ("chat/completions", {"messages": []}, "Invalid 'messages': list should have at least 1 item, not 0."),
        (
            "chat/completions",
            {"metadata": {str(number): "x" for number in range(17)}},
            "Invalid 'metadata': dictionary should have at most 16 items.",
        ),
    ],
)
def test_refusals_are_in_words_for_who_asks(server: Live, path: str, fields: dict[str, Any], said: str):
    messages = {} if "input" in fields else {"messages": [{"role": "user", "content": "hi"}]}
    response = server.http.post(f"/v1/{path}", json={"model": "gpt-4o", **messages, **fields})
    assert response.status_code == 400
    assert response.json()["error"]["message"].endswith(said)
