"""Exchanges with tools: a system message lists functions, and the answer is a call of the one that fits.

Names of functions and of arguments vary, so that they must be read from the list. When no listed function fits, the
answer is plain words. After a call, its result may come back and be told.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from sensorium.data.generators.dialogues import SKILLS, Exchange, exchange, pick
from sensorium.data.generators.speech import Split
from sensorium.messages import ToolCall, tool_list


class _Tool(NamedTuple):
    """A function a house offers: its names (the first is the one `dialogues` calls), and its arguments' types."""

    names: tuple[str, ...]
    description: str
    arguments: dict[str, str]


_TOOLS = (
    _Tool(
        ("set_device", "switch_device", "turn_on_or_off"),
        "switch a device on or off",
        {"device": "string", "room": "string", "state": "string"},
    ),
    _Tool(
        ("set_brightness", "dim_to", "light_level"),
        "set how bright a light is",
        {"device": "string", "room": "string", "percent": "integer"},
    ),
    _Tool(
        ("change_brightness", "adjust_light"),
        "make a light brighter or darker",
        {"device": "string", "room": "string", "change": "string"},
    ),
    _Tool(("set_timer", "start_timer", "timer"), "start a timer", {"seconds": "integer"}),
    _Tool(("cancel_timer", "stop_timer"), "stop the timer", {}),
    _Tool(("set_alarm", "wake_up", "alarm"), "wake someone up", {"time": "string"}),
    _Tool(("cancel_alarm", "stop_alarm"), "stop the alarm", {}),
    _Tool(
        ("set_heat", "set_temperature", "thermostat"),
        "heat a room to some degrees",
        {"room": "string", "degrees": "integer"},
    ),
    _Tool(
        ("change_heat", "adjust_temperature"), "make a room warmer or colder", {"room": "string", "change": "string"}
    ),
    _Tool(("play_music", "play", "start_music"), "play music", {"kind": "string", "room": "string"}),
    _Tool(("set_volume", "volume"), "set how loud the music is", {"percent": "integer"}),
    _Tool(("control_music", "player"), "make music louder or softer, stop or skip it", {"action": "string"}),
    _Tool(("set_lock", "lock_door"), "lock or unlock a door", {"door": "string", "state": "string"}),
    _Tool(("set_cover", "move_cover"), "open or shut blinds", {"cover": "string", "room": "string", "state": "string"}),
)
_BY_NAME = {tool.names[0]: tool for tool in _TOOLS}
_ARGUMENT_NAMES = {
    "device": ("device", "device", "name"),
    "room": ("room", "room", "place", "where"),
    "state": ("state", "state", "to"),
    "percent": ("percent", "percent", "level"),
    "change": ("change", "change", "how"),
    "degrees": ("degrees", "degrees", "celsius"),
    "kind": ("kind", "kind", "genre"),
}
_TOOL_SKILLS = ("switch", "dim", "timer", "alarm", "heating", "music", "door")
# Durations in seconds are products to be known by heart, so there are more of them to learn from than to be asked.
_TAUGHT_SKILLS = (*_TOOL_SKILLS, "timer", "timer", "alarm")
_OTHER_SKILLS = tuple(skill for skill in SKILLS if skill not in _TOOL_SKILLS)
CANNOT = "i have no tool for that"


class ToolExchange(NamedTuple):
    """An exchange in front of tools. `exchange.tool_call` is the right answer; None means that `exchange.answer` is.

    `result` is what the tool answers when the conversation goes on to tell it, else None.
    """

    system: str
    exchange: Exchange
    result: str | None


def tool_exchange(rng: np.random.Generator, split: Split) -> ToolExchange:
    """One to three functions and a question: most fit one of them, some fit none or need none."""
    kind = rng.random()
    needing = _TAUGHT_SKILLS if split == "train" else _TOOL_SKILLS
    asked = exchange(rng, pick(rng, needing if kind < 0.85 else _OTHER_SKILLS), split=split)
    is_offered = kind < 0.75 and asked.tool_call is not None
    offered = [asked.tool_call.name] if is_offered and asked.tool_call else []
    needed = asked.tool_call.name if asked.tool_call else ""
    others = [name for name in _BY_NAME if name != needed]
    size = int(rng.integers(1, 4))
    while len(offered) < size:
        offered.append(others.pop(int(rng.integers(len(others)))))
    named = {name: _rename(rng, _BY_NAME[name]) for name in offered}
    functions = [named[offered[index]].function for index in rng.permutation(len(offered))]
    if is_offered and asked.tool_call:
        asked = asked._replace(tool_call=named[needed].call(asked.tool_call))
    elif asked.tool_call:
        asked = asked._replace(tool_call=None, answer=CANNOT)
    result = pick(rng, ('{"ok":true}', "ok", "done")) if asked.tool_call and rng.random() < 0.4 else None
    return ToolExchange(tool_list(functions).text, asked, result)


class _Named(NamedTuple):
    """A tool under the names it goes by in one conversation."""

    function: dict[str, object]
    arguments: dict[str, str]  # the name in `dialogues` -> the name here

    def call(self, tool_call: ToolCall) -> ToolCall:
        arguments = {self.arguments[name]: value for name, value in json.loads(tool_call.arguments).items()}
        text = json.dumps(arguments, separators=(",", ":"))
        return ToolCall(id=tool_call.id, name=str(self.function["name"]), arguments=text)


def _rename(rng: np.random.Generator, tool: _Tool) -> _Named:
    arguments = {name: pick(rng, _ARGUMENT_NAMES.get(name, (name,))) for name in tool.arguments}
    properties = {arguments[name]: {"type": kind} for name, kind in tool.arguments.items()}
    function: dict[str, object] = {
        "name": pick(rng, tool.names),
        "description": tool.description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
    return _Named(function, arguments)
