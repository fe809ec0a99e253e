"""The answers of a call call nothing but what is on offer, the way it is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sensorium.engine.request import ANY_OBJECT, SamplingParams
from tests.server.calls import PUSH_TO_TALK, Phone, phone
from tests.server.live import Live


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
LIGHT, DOOR = tool("light", parameters=COLOUR), tool("door")
NAMED = {"type": "function", "name": "light"}


def asked(server: Live, call: Phone, **response: Any) -> SamplingParams:
    """What the engine was asked for."""
    call.say("response.create", response=response)
    call.until("response.done")
    call.next()  # rate_limits.updated
    return server.engine.requests[-1].params


@pytest.mark.parametrize("other", [{}, {"conversation": "none"}], ids=["thread", "beside"])
def test_answers_are_held_to_the_functions_on_offer(server: Live, other: dict[str, Any]):
    with phone(server, session={**PUSH_TO_TALK, "tools": [LIGHT, DOOR]}) as call:
        call.user("hi")
        params = asked(server, call, **other)
        light, door = params.functions
        assert (light.name, json.loads(light.parameters)) == ("light", COLOUR)
        assert door.name == "door"
        assert json.loads(door.parameters)["properties"] == {}
        assert (params.tool_choice, params.max_calls) == ("auto", None)
        params = asked(server, call, tool_choice="required", parallel_tool_calls=False, **other)
        assert (params.tool_choice, params.max_calls, len(params.functions)) == ("required", 1, 2)
        params = asked(server, call, tool_choice=NAMED, **other)
        assert (params.tool_choice, [each.name for each in params.functions]) == ("required", ["light"])
        params = asked(server, call, tool_choice="none", **other)
        assert (params.tool_choice, params.functions) == ("none", ())
        params = asked(server, call, tools=[], **other)
        assert (params.tool_choice, params.functions) == ("none", ())


def test_a_session_may_force_a_function_and_name_one_call(server: Live):
    session = {**PUSH_TO_TALK, "tools": [LIGHT, DOOR], "tool_choice": NAMED, "parallel_tool_calls": False}
    with phone(server, session=session) as call:
        call.user("hi")
        params = asked(server, call)
        assert ([each.name for each in params.functions], params.max_calls) == (["light"], 1)
        assert server.engine.requests[-1].messages[0].text.count('"name"') == 2  # it is told of both
        params = asked(server, call, tool_choice="auto", parallel_tool_calls=True)
        assert (len(params.functions), params.max_calls) == (2, None)
        found = call.refused("response.create", response={"tools": [DOOR]})
        assert found == ("response.tool_choice.name", "invalid_value")
        found = call.refused("session.update", session={"type": "realtime", "tools": [DOOR]})
        assert found == ("session.tool_choice.name", "invalid_value")


def test_parameters_that_cannot_be_kept_to_leave_any_object(server: Live):
    hard = tool("light", parameters={"type": "object", "minProperties": 3})
    with phone(server, session={**PUSH_TO_TALK, "tools": [hard]}) as call:
        call.user("hi")
        [function] = asked(server, call).functions
        assert json.loads(function.parameters) == json.loads(ANY_OBJECT)


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("perhaps", "session.tool_choice"),
        ({"type": "mcp", "server_label": "x"}, "session.tool_choice"),
        ({"type": "function"}, "session.tool_choice.name"),
        ({"type": "function", "name": "window"}, "session.tool_choice.name"),
        ({"type": "function", "name": 7}, "session.tool_choice.name"),
        ({**NAMED, "strict": True}, "session.tool_choice"),
    ],
)
def test_a_choice_that_cannot_be_obeyed_is_named(server: Live, choice: Any, param: str):
    with phone(server, session=PUSH_TO_TALK) as call:
        session = {"type": "realtime", "tools": [LIGHT], "tool_choice": choice}
        assert call.refused("session.update", session=session)[0] == param
