"""What a chat request asks of the sampler: seeds and temperatures, schemas to keep to, what may be called."""

from __future__ import annotations

import json
import secrets
from typing import Any

from sensorium.engine.constraint import check_schema
from sensorium.engine.request import ANY_OBJECT, EngineInfo, Function, SamplingParams
from sensorium.server.chat_request import (
    MAX_INT64,
    ChatRequest,
    FunctionDefinition,
    ResponseFormat,
    known_voice,
    used_tier,
)
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid, missing

OPENAI_TEMPERATURE = 1.0  # what the contract takes where a request says nothing
NO_ARGUMENTS = '{"type":"object","properties":{},"additionalProperties":false}'


def sampling_params(request: ChatRequest, info: EngineInfo, config: ServerConfig) -> list[SamplingParams]:
    """How the engine should make each choice. Without a seed every choice is a new roll of the dice.

    Compiles schemas, which may take long: not for the event loop. Raises APIError for fields that contradict each other
    or that the engine cannot keep to, and for an unknown voice.
    """
    defaults = SamplingParams()
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise invalid("Give 'max_completion_tokens' or the deprecated 'max_tokens', not both.", "max_tokens")
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if "" in stops:
        raise invalid("Invalid 'stop': an empty text would stop every answer at once.", "stop")
    if request.top_logprobs and not request.logprobs:
        raise invalid("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    voice = known_voice(request.audio.voice, info, config, "audio.voice") if request.audio else defaults.voice
    shared: dict[str, Any] = {
        "modality": "audio" if request.speaks else "text",
        "voice": voice,
        "max_tokens": request.max_completion_tokens or request.max_tokens,
        "temperature": chosen_temperature(request.temperature, request.top_p, num_choices=request.n),
        "top_p": defaults.top_p if request.top_p is None else request.top_p,
        "stop": tuple(stops),
        "tool_choice": request.call_policy,
        "functions": _functions(request),
        "max_calls": 1 if request.parallel_tool_calls is False or request.functions else None,
        "document": _document(request.response_format),
        "frequency_penalty": request.frequency_penalty or 0.0,
        "presence_penalty": request.presence_penalty or 0.0,
        "token_bias": token_bias(request.logit_bias or {}, info),
        "top_logprobs": (request.top_logprobs or 0) if request.logprobs else None,
        "flex": used_tier(request.service_tier) == "flex",
    }
    choices = range(request.n or 1)
    seeds = [secrets.randbits(62) if request.seed is None else request.seed + choice for choice in choices]
    return [SamplingParams(seed=seed & MAX_INT64, **shared) for seed in seeds]


def held_schema(schema: dict[str, Any], param: str) -> str:
    """A schema as the engine takes it. Raises APIError naming `param`, with the reason, if no answer can be."""
    try:
        check_schema(schema)
    except ValueError as error:
        raise invalid(f"Invalid schema for '{param}': {error}.", param, "unsupported_value") from None
    return json.dumps(schema)


def offered_function(function: FunctionDefinition, param: str) -> Function:
    """A function whose calls are held to its parameters, where that is possible. Raises APIError naming the parameters
    where it is not, though `strict` asks for it."""
    if function.parameters is None:
        return Function(name=function.name, parameters=NO_ARGUMENTS)
    try:
        schema = held_schema({"type": "object", **function.parameters}, f"{param}.parameters")
    except APIError:
        if function.strict:
            raise
        schema = ANY_OBJECT
    return Function(name=function.name, parameters=schema)


def token_bias(biases: dict[str, float], info: EngineInfo) -> tuple[tuple[int, float], ...]:
    """Raises APIError naming the token that the model does not have."""
    for token in biases:
        if not (token.isascii() and token.isdecimal() and int(token[:9]) < info.num_text_tokens and len(token) < 9):
            message = f"Invalid 'logit_bias': this model's tokens are 0 to {info.num_text_tokens - 1}."
            raise invalid(message, f"logit_bias.{token[:64]}")
    return tuple((int(token), bias) for token, bias in biases.items())


def _functions(request: ChatRequest) -> tuple[Function, ...]:
    names = [tool.function.name for tool in request.callable_tools]
    form = "functions[{}]" if request.functions else "tools[{}].function"
    functions: list[Function] = []
    for index, tool in enumerate(request.known_tools):
        function = offered_function(tool.function, form.format(index))
        if tool.function.name in names:
            functions.append(function)
    return tuple(functions)


def _document(format: ResponseFormat | None) -> str | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return ANY_OBJECT
    if format.json_schema is None:
        raise missing("response_format.json_schema")
    if format.json_schema.schema_ is None:
        return ANY_OBJECT
    return held_schema(format.json_schema.schema_, "response_format.json_schema.schema")


def chosen_temperature(temperature: float | None, top_p: float | None, *, num_choices: int | None = None) -> float:
    """The likeliest words, unless the request says otherwise, or asks for what only dice can give."""
    if temperature is not None:
        return temperature
    needs_dice = (top_p is not None and top_p < 1) or (num_choices or 1) > 1
    return OPENAI_TEMPERATURE if needs_dice else SamplingParams().temperature
