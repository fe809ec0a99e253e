"""How a response looks on the wire: the engine's events as the items of one response, and as the events of its stream.

One writer makes both, whether anybody streams or not: it owns the sequence numbers and every item's id. Each item is
added, filled and done before the next one begins, and all are done before the response is.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import secrets
import time
from typing import Any

import numpy as np
import pydantic_core

from sensorium.engine.request import (
    End,
    EngineInfo,
    Event,
    ImageDelta,
    SamplingParams,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from sensorium.server.chat_reply import logprobs_body
from sensorium.server.chat_request import used_tier
from sensorium.server.errors import APIError
from sensorium.server.picture_out import PictureWriter
from sensorium.server.picture_request import PicturePlan, drawing_file
from sensorium.server.responses_messages import Json, new_id
from sensorium.server.responses_request import ImageTool, ResponseRequest

_OBFUSCATED_CHARS = 64  # what a delta and its padding come to, or a multiple of it


def response_body(request: ResponseRequest, params: SamplingParams, info: EngineInfo) -> Json:
    """A response of which nothing is there yet: what was asked, in effective values."""
    text = request.text
    format = text.format.model_dump(by_alias=True, exclude_none=True) if text and text.format else {"type": "text"}
    choice = request.tool_choice
    body: Json = {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": bool(request.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": info.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": used_tier(request.service_tier),
        "store": request.store is not False,
        "temperature": params.temperature,
        "text": {"format": format, "verbosity": (text and text.verbosity) or "medium"},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
        **({"conversation": {"id": request.conversation_id}} if request.conversation_id else {}),
        "tools": [_tool_body(tool) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": params.top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": dict(request.metadata or {}),
    }
    told = {"safety_identifier": request.safety_identifier, "prompt_cache_key": request.prompt_cache_key}
    return {**body, **{name: value for name, value in told.items() if value is not None}}


def _tool_body(tool: Any) -> Json:
    if isinstance(tool, ImageTool):
        return tool.model_dump(exclude_none=True)
    return {**tool.model_dump(), "strict": bool(tool.strict)}


def usage_body(usage: Usage, gpt_4o_image_tokens: int = 0) -> Json:
    seen = {"image_tokens": usage.input_image, "gpt_4o_image_tokens": gpt_4o_image_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": 0,
            **(seen if gpt_4o_image_tokens else {}),
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class ResponseWriter:
    """Fills `body`, a response that was just begun, by the engine's events. Every method returns the stream's events.

    Pictures come out by `plan`; `action` is what drawing one is said to be. `obfuscates` pads deltas, so that their
    length tells less. `seen` is what gpt-4o would have counted for the pictures of the prompt.
    """

    def __init__(
        self,
        body: Json,
        pictures: PictureWriter,
        *,
        plan: PicturePlan,
        action: str | None = None,
        obfuscates: bool = False,
        seen: int = 0,
    ) -> None:
        self.body = body
        self._pictures = pictures
        self._plan = plan
        self._action = action
        self._gpt_4o_image_tokens = seen
        self._obfuscates = obfuscates
        self._num_events = 0
        self._open: Json | None = None  # the item that is being filled: the last one of the output
        self._num_partial = 0
        self._num_drawings = 0

    @property
    def is_over(self) -> bool:
        return self.body["status"] not in ("queued", "in_progress")

    def created(self) -> list[Json]:
        return [self._about("response.created")]

    def queued(self) -> list[Json]:
        self.body["status"] = "queued"
        return [self._about("response.created"), self._about("response.queued")]

    def begun(self) -> list[Json]:
        self.body["status"] = "in_progress"
        return [self._about("response.in_progress")]

    async def push(self, event: Event) -> list[Json]:
        match event:
            case TextDelta() if event.text:
                return self._say(event.text, logprobs_body(event.logprobs)["content"])
            case ToolCallDelta():
                return self._call(event)
            case ToolCallEvent():
                return self._close("completed")
            case ImageDelta():
                return await self._draw(event.pixels, is_final=event.final)
            case End():
                return self._end(event)
        return []

    def failed(self, error: APIError) -> list[Json]:
        """The answer broke off: what there is of it stays, but is not complete."""
        events = self._close("incomplete")
        # the contract has few codes for this, none of which says more
        self._finish("failed", error={"code": "server_error", "message": error.message})
        return [*events, self._about("response.failed")]

    def cancelled(self) -> list[Json]:
        """As `failed`; the stream just ends, the contract has no event for it."""
        events = self._close("incomplete")
        self._finish("cancelled")
        return events

    # --- items

    def _say(self, text: str, logprobs: list[Json]) -> list[Json]:
        events = self._open_message()
        part = self._item["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        said = {"delta": text, "logprobs": logprobs, **self._padding(text)}
        return [*events, self._of_part("response.output_text.delta", **said)]

    def _open_message(self) -> list[Json]:
        if self._open is not None and self._open["type"] == "message":
            return []
        content = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        events = [*self._close("completed"), *self._add("message", role="assistant", content=[])]
        self._item["content"].append(content)
        return [*events, self._of_part("response.content_part.added", part=content)]

    def _call(self, call: ToolCallDelta) -> list[Json]:
        events: list[Json] = []
        if self._open is None or self._open["type"] != "function_call":
            named = {"call_id": f"call_{secrets.token_hex(12)}", "name": call.name, "arguments": ""}
            events = [*self._close("completed"), *self._add("function_call", **named)]
        if not call.arguments:
            return events
        self._item["arguments"] += call.arguments
        said = {"delta": call.arguments, **self._padding(call.arguments)}
        return [*events, self._of_item("response.function_call_arguments.delta", **said)]

    async def _draw(self, pixels: np.ndarray, *, is_final: bool) -> list[Json]:
        is_new, most = self._open is None or self._open["type"] != "image_generation_call", self.body["max_tool_calls"]
        if is_new and most is not None and self._num_drawings >= most:
            return []  # by the contract, further attempts are ignored
        events: list[Json] = []
        shown = base64.b64encode(await asyncio.to_thread(drawing_file, pixels, self._plan, self._pictures)).decode()
        drawn = self._plan.told((pixels.shape[1], pixels.shape[0]))
        if is_new:
            self._num_partial = 0
            self._num_drawings += 1
            said = {"action": self._action} if self._action else {}
            events += [*self._close("completed"), *self._add("image_generation_call", result=None, **said, **drawn)]
            events.append(self._of_item("response.image_generation_call.in_progress"))
            self._item["status"] = "generating"
            events.append(self._of_item("response.image_generation_call.generating"))
        if is_final:
            self._item["result"] = shown
            return [*events, *self._close("completed")]
        partial = {"partial_image_index": self._num_partial, "partial_image_b64": shown, **drawn}
        self._num_partial += 1
        return [*events, self._of_item("response.image_generation_call.partial_image", **partial)]

    def _end(self, end: End) -> list[Json]:
        is_cut = end.reason == "length"
        events = [] if self.body["output"] else self._open_message()  # an answer of no words is one too
        events += self._close("incomplete" if is_cut else "completed")
        self.body["usage"] = usage_body(end.usage, self._gpt_4o_image_tokens)
        if is_cut:
            self._finish("incomplete", incomplete_details={"reason": "max_output_tokens"})
            return [*events, self._about("response.incomplete")]
        self._finish("completed", completed_at=int(time.time()))
        return [*events, self._about("response.completed")]

    @property
    def _item(self) -> Json:
        assert self._open is not None
        return self._open

    def _add(self, kind: str, **fields: Any) -> list[Json]:
        self._open = {"id": new_id(kind), "type": kind, "status": "in_progress", **fields}
        self.body["output"].append(self._open)
        return [self._event("response.output_item.added", output_index=self._index, item=self._open)]

    def _close(self, status: str) -> list[Json]:
        """Everything that says that the open item is done, if one is."""
        if (item := self._open) is None:
            return []
        events: list[Json] = []
        item["status"] = status
        match item["type"]:
            case "message":
                (part,) = item["content"]
                events = [
                    self._of_part("response.output_text.done", text=part["text"], logprobs=part["logprobs"]),
                    self._of_part("response.content_part.done", part=part),
                ]
            case "function_call":
                done = {"name": item["name"], "arguments": item["arguments"]}
                events = [self._of_item("response.function_call_arguments.done", **done)]
            case "image_generation_call" if item["result"] is not None:
                events = [self._of_item("response.image_generation_call.completed")]
            case "image_generation_call":
                item["status"] = "failed"  # half a picture is none
        events.append(self._event("response.output_item.done", output_index=self._index, item=item))
        self._open = None
        return events

    def _finish(self, status: str, **fields: Any) -> None:
        self.body.update(status=status, **fields)

    # --- events

    @property
    def _index(self) -> int:
        return len(self.body["output"]) - 1

    def _about(self, type: str) -> Json:
        return self._event(type, response=self.body)

    def _of_item(self, type: str, **fields: Any) -> Json:
        return self._event(type, item_id=self._item["id"], output_index=self._index, **fields)

    def _of_part(self, type: str, **fields: Any) -> Json:
        return self._of_item(type, content_index=0, **fields)

    def _event(self, type: str, **fields: Any) -> Json:
        """A snapshot: what it shows grows on."""
        event = {"type": type, "sequence_number": self._num_events, **copy.deepcopy(fields)}
        self._num_events += 1
        return event

    def _padding(self, delta: str) -> Json:
        if not self._obfuscates:
            return {}
        missing = -len(delta) % _OBFUSCATED_CHARS
        return {"obfuscation": secrets.token_urlsafe(_OBFUSCATED_CHARS)[:missing]}


def ending_event(body: Json, sequence_number: int) -> list[Json]:
    """The last event of a response whose end is known by what was kept of it only. The contract has none for one that
    was cancelled."""
    if body["status"] == "cancelled":
        return []
    return [{"type": f"response.{body['status']}", "sequence_number": sequence_number, "response": body}]


def error_event(error: APIError, sequence_number: int) -> Json:
    """For a stream that cannot even end with its response."""
    told = {"code": error.code, "message": error.message, "param": error.param}
    return {"type": "error", "sequence_number": sequence_number, **told}


def server_sent(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: ".encode() + pydantic_core.to_json(event) + b"\n\n"
