"""What an answer of a call may call: functions on offer only, with arguments that keep to their parameters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sensorium.engine.request import Function, ToolChoice
from sensorium.messages import Message, tool_list
from sensorium.server.chat_request import FunctionDefinition
from sensorium.server.chat_sampling import offered_function
from sensorium.server.errors import invalid, missing, unsupported
from sensorium.server.realtime_events import FunctionTool, ResponseOptions, SessionConfig

_POLICIES: dict[str, ToolChoice] = {"none": "none", "auto": "auto", "required": "required"}
_MAX_HELD = 256  # functions whose schemas were compiled: calls offer the same ones with every answer


class Calls(NamedTuple):
    """The network is told of the functions in `offered`, and may call those in `functions`."""

    offered: Sequence[FunctionTool] = ()
    policy: ToolChoice = "none"
    functions: tuple[Function, ...] = ()
    max_calls: int | None = None

    @property
    def head(self) -> list[Message]:
        """What the network is told of them, before everything else."""
        if not self.offered:
            return []
        functions = [tool.model_dump(exclude_none=True, exclude={"type"}) for tool in self.offered]
        return [Message(role="system", parts=(tool_list(functions),))]


def chosen(session: SessionConfig, options: ResponseOptions, param: str) -> Calls:
    """Without the functions' schemas: what is told of them. Raises APIError naming `param` for a choice that can't be
    obeyed, of a function that is not on offer."""
    choice = session.tool_choice if options.tool_choice is None else options.tool_choice
    tools = session.tools if options.tools is None else options.tools
    if isinstance(choice, dict):
        _check_named(choice, tools, param)
    elif choice not in _POLICIES:
        raise invalid(f"Invalid '{param}': supported values are {', '.join(map(repr, _POLICIES))}.", param)
    if not tools or choice == "none":
        return Calls()
    parallel = session.parallel_tool_calls if options.parallel_tool_calls is None else options.parallel_tool_calls
    policy = "required" if isinstance(choice, dict) else _POLICIES[choice]
    return Calls(offered=tools, policy=policy, max_calls=1 if parallel is False else None)


async def held(session: SessionConfig, options: ResponseOptions) -> Calls:
    """With the functions that may be called. A schema that was not met before takes milliseconds, on another thread.
    One that can't be kept to leaves any JSON object: tools of calls have no `strict`. Raises as `chosen` does."""
    calls = chosen(session, options, "response.tool_choice")
    if not calls.offered:
        return calls
    choice = session.tool_choice if options.tool_choice is None else options.tool_choice
    callable_tools = [
        json.dumps(tool.model_dump(exclude={"type"}))
        for tool in calls.offered
        if not isinstance(choice, dict) or tool.name == choice["name"]
    ]
    functions = await asyncio.to_thread(lambda: tuple(map(_function, callable_tools)))
    return calls._replace(functions=functions)


@lru_cache(maxsize=_MAX_HELD)
def _function(definition: str) -> Function:
    return offered_function(FunctionDefinition(**json.loads(definition)), "response.tools")


def _check_named(choice: dict[str, Any], tools: Sequence[FunctionTool], param: str) -> None:
    match choice:
        case {"type": "function", "name": str(name), **others}:
            if others:
                raise invalid(f"Unknown parameter: '{param}.{next(iter(others))}'.", param, "unknown_parameter")
            if name not in [tool.name for tool in tools]:
                raise invalid(f"'{name}' is not among the tools.", f"{param}.name")
        case {"type": "function"}:
            raise missing(f"{param}.name")
        case _:
            raise unsupported(param, "it is 'none', 'auto', 'required' or {'type': 'function', 'name': ...}")
