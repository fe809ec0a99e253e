from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from sensorium.server.chat_request import ChatRequest
from tests.server.live import Live, live
from tests.serving import ROOT

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]


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
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_value"),
        ({"frequency_penalty": 3}, "frequency_penalty", "decimal_above_max_value"),
        ({"presence_penalty": -1}, "presence_penalty", "unsupported_value"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "unsupported_value"),
        ({"logprobs": True}, "logprobs", "unsupported_value"),
        ({"top_logprobs": 5}, "top_logprobs", "unsupported_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", "unsupported_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.type", "unsupported_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"store": True}, "store", "unsupported_value"),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65 + ".[key]", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "array_above_max_length"),
        ({"functions": [FUNCTION]}, "functions", "unsupported_value"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", "invalid_value"),
        ({**SPOKEN, "stop": ["three"]}, "stop", "unsupported_value"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice", "unsupported_value"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]},
            "tools[0].function.strict",
            "unsupported_value",
        ),
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
        ([{"role": "function", "name": "f", "content": "hi"}], "messages[0].role", "invalid_value"),
        ([{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "user", "content": None}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": []}], "messages[0].content", "empty_array"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "messages[0].content[0].type", "invalid_value"),
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
    ],
)
def test_tool_choice_reaches_the_engine(fields: dict, policy: str):
    request = ChatRequest.model_validate({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **fields})
    assert request.call_policy == policy
