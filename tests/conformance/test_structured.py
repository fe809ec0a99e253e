"""Schemas, tools and log probabilities with the shipped network, through the official client."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sensorium.cli import RELEASED
from sensorium.engine.engine import OmniEngine
from sensorium.tokenizers.text import TextTokenizer
from tests.server.calls import PUSH_TO_TALK, phone
from tests.server.live import Live, live

ASKED: Any = [{"role": "user", "content": "turn on the light in the kitchen"}]
TEXT = TextTokenizer.load(RELEASED / "text.json")
HOT: Any = {"model": "gpt-4o", "messages": ASKED, "temperature": 2.0, "seed": 5}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Lamp(pydantic.BaseModel):
    room: str = pydantic.Field(max_length=12)
    colour: Colour
    level: int = pydantic.Field(ge=0, le=100)


class Home(pydantic.BaseModel):
    kind: Literal["home"]
    lamps: list[Lamp] = pydantic.Field(min_length=1, max_length=2)
    parent: Home | None


class SwitchLight(pydantic.BaseModel):
    room: str = pydantic.Field(max_length=12)
    on: bool


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    engine: Any = OmniEngine.load(RELEASED)
    with live(engine) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[openai.OpenAI]:
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_parses_into_a_model(client: Any, seed: int):
    completion = client.chat.completions.parse(**{**HOT, "seed": seed}, response_format=Home, max_tokens=160)
    home = completion.choices[0].message.parsed
    assert completion.choices[0].finish_reason == "stop"
    assert isinstance(home, Home)
    assert home.lamps[0].colour in Colour


def test_a_streamed_answer_parses_into_a_model(client: Any):
    with client.chat.completions.stream(**HOT, response_format=Lamp, max_tokens=60) as stream:
        kinds = {event.type for event in stream}
        completion = stream.get_final_completion()
    assert "content.delta" in kinds
    assert isinstance(completion.choices[0].message.parsed, Lamp)


def test_any_json_object(client: Any):
    for seed in range(4):
        fields = {**HOT, "seed": seed, "response_format": {"type": "json_object"}}
        content = client.chat.completions.create(**fields, max_tokens=80).choices[0].message.content
        assert isinstance(json.loads(content or ""), dict)


def test_arguments_parse_into_a_model(client: Any):
    tools = [openai.pydantic_function_tool(SwitchLight)]
    for seed in range(4):
        completion = client.chat.completions.parse(
            **{**HOT, "seed": seed}, tools=tools, tool_choice="required", max_tokens=60
        )
        calls = completion.choices[0].message.tool_calls
        assert calls
        assert all(isinstance(call.function.parsed_arguments, SwitchLight) for call in calls)


def test_a_named_function_is_called(client: Any):
    tools: Any = [{"type": "function", "function": {"name": name}} for name in ("red", "green", "blue")]
    for name in ("green", "blue"):
        choice: Any = {"type": "function", "function": {"name": name}}
        message = client.chat.completions.create(**HOT, tools=tools, tool_choice=choice).choices[0].message
        assert message.tool_calls
        for call in message.tool_calls:
            assert call.type == "function"
            assert (call.function.name, json.loads(call.function.arguments)) == (name, {})
    allowed: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "blue"}}]},
    }
    for seed in range(3):
        fields = {**HOT, "seed": seed}
        message = client.chat.completions.create(**fields, tools=tools, tool_choice=allowed).choices[0].message
        assert {call.function.name for call in message.tool_calls or () if call.type == "function"} == {"blue"}


def test_calls_one_or_several(client: Any):
    """A bias towards nothing in particular: at this temperature the network often goes on to call again."""
    tools: Any = [{"type": "function", "function": {"name": "light"}}]
    counts: dict[bool, set[int]] = {}
    for parallel in (True, False):
        fields: Any = {**HOT, "tools": tools, "tool_choice": "required", "parallel_tool_calls": parallel}
        found = [client.chat.completions.create(**{**fields, "seed": seed}).choices[0].message for seed in range(8)]
        counts[parallel] = {len(message.tool_calls or ()) for message in found}
    assert counts[False] == {1}
    assert min(counts[True]) >= 1


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_a_call_by_voice_calls_what_is_on_offer(server: Live, modality: str):
    """Functions that the network was never taught, in the live conversation and beside it."""
    tools = [
        {"type": "function", "name": "SwitchLight", "parameters": SwitchLight.model_json_schema()},
        {"type": "function", "name": "Lamp", "parameters": Lamp.model_json_schema()},
    ]
    models = {"SwitchLight": SwitchLight, "Lamp": Lamp}
    session = {**PUSH_TO_TALK, "output_modalities": [modality], "tools": tools, "max_output_tokens": 200}
    called: list[str] = []
    with phone(server, session=session) as call:
        call.user("turn on the light in the kitchen")
        named = {"type": "function", "name": "Lamp"}
        for choice in ("required", "required", named):
            for conversation in ("auto", "none"):
                call.say("response.create", response={"tool_choice": choice, "conversation": conversation})
                response = call.until("response.done")[-1]["response"]
                call.until("rate_limits.updated")
                made = [item for item in response["output"] if item["type"] == "function_call"]
                assert made, response
                called += [item["name"] for item in made]
                assert choice == "required" or {item["name"] for item in made} == {"Lamp"}
                for item in made:
                    models[item["name"]].model_validate_json(item["arguments"])
    assert len(called) >= 6


def test_log_probabilities_are_those_of_the_text(client: Any):
    fields = {**HOT, "temperature": 0, "logprobs": True, "top_logprobs": 4, "tool_choice": openai.omit}
    choice = client.chat.completions.create(**fields).choices[0]
    assert choice.logprobs
    assert choice.logprobs.content
    assert b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content).decode() == choice.message.content
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 4
        assert token.token == token.top_logprobs[0].token  # greedy
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert sum(math.exp(likely.logprob) for likely in token.top_logprobs) <= 1.0001
    streamed = list[Any]()
    for chunk in client.chat.completions.create(**fields, stream=True):
        assert isinstance(chunk, ChatCompletionChunk)
        logprobs = chunk.choices[0].logprobs
        streamed += logprobs.content or () if logprobs else ()
    assert streamed == choice.logprobs.content


def test_log_probabilities_stop_where_the_text_does(client: Any):
    fields = {**HOT, "temperature": 0, "logprobs": True}
    whole = client.chat.completions.create(**fields).choices[0]
    assert whole.message.content
    stop = whole.message.content.split()[-1]
    cut = client.chat.completions.create(**fields, stop=stop).choices[0]
    assert cut.logprobs
    told = b"".join(bytes(token.bytes or ()) for token in cut.logprobs.content or ()).decode()
    assert cut.message.content is not None
    assert told.startswith(cut.message.content)
    assert len(told) <= len(cut.message.content) + len(" " + stop)
    short = client.chat.completions.create(**fields, max_tokens=2).choices[0]
    assert (len(short.logprobs.content or ()) if short.logprobs else 0, short.finish_reason) == (2, "length")


def test_a_bias_bans_a_token(client: Any):
    fields: Any = {**HOT, "temperature": 0, "logprobs": True, "max_tokens": 1}
    first = client.chat.completions.create(**fields).choices[0]
    assert first.logprobs
    assert first.logprobs.content
    likeliest = first.logprobs.content[0].token
    [index] = [i for i in range(2048) if TEXT.token_bytes(i).decode(errors="replace") == likeliest]
    other = client.chat.completions.create(**fields, logit_bias={str(index): -100}).choices[0]
    assert other.logprobs
    assert other.logprobs.content
    assert other.logprobs.content[0].token != likeliest
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**fields, logit_bias={"2048": 1})
    assert refused.value.param == "logit_bias.2048"


def test_a_penalty_keeps_from_repeating(client: Any):
    schema = {"type": "string", "minLength": 60}
    format = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    fields: Any = {**HOT, "temperature": 0, "logprobs": True, "response_format": format}

    def tokens(**penalty: float) -> list[str]:
        logprobs = client.chat.completions.create(**fields, **penalty, max_tokens=200).choices[0].logprobs
        return [token.token for token in (logprobs.content if logprobs else None) or ()]

    plain, varied = tokens(), tokens(frequency_penalty=2.0)
    assert len(set(varied)) / len(varied) > len(set(plain)) / len(plain)


def test_choices_and_a_seed(client: Any):
    def contents(**fields: Any) -> tuple[list[str | None], ChatCompletion]:
        completion = client.chat.completions.create(**{**HOT, "n": 3, "max_tokens": 8, **fields})
        return [choice.message.content for choice in completion.choices], completion

    first, completion = contents()
    again, other = contents()
    assert first == again
    assert completion.system_fingerprint == other.system_fingerprint
    assert len(set(first)) > 1
    assert completion.usage
    single = client.chat.completions.create(**{**HOT, "max_tokens": 8})
    assert single.choices[0].message.content == first[0]  # as if it were alone
    assert single.usage
    assert completion.usage.prompt_tokens == single.usage.prompt_tokens


def test_a_schema_that_cannot_be_kept_to(client: Any):
    format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    with pytest.raises(openai.BadRequestError, match="not") as refused:
        client.chat.completions.create(**HOT, response_format=format)
    assert refused.value.param == "response_format.json_schema.schema"


def test_a_prediction_costs_nothing(client: Any):
    completion = client.chat.completions.create(**HOT, prediction={"type": "content", "content": "the light is on"})
    assert completion.usage
    assert completion.usage.completion_tokens_details
    details = completion.usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 0)
