"""What is kept of responses and conversations, and how a request finds what was said before.

A response is kept with its own input items; those of the responses before it are found by `previous_response_id`, so
that what is deleted is gone from every thread. A conversation holds its items itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from sensorium.platform.presence import Presence
from sensorium.platform.store import Item as Held
from sensorium.platform.store import Store, StoredObject
from sensorium.server.errors import APIError, invalid
from sensorium.server.listing import not_found
from sensorium.server.responses_items import Item
from sensorium.server.responses_messages import Json, Placed, new_id
from sensorium.server.responses_reply import ending_event

RESPONSE, CONVERSATION = "response", "conversation"
_EVENTS, _OUTPUT_ITEM = "response_events", "response_item"
KEPT_S = 30 * 86_400  # responses; conversations stay until they are deleted
_GRACE_S = 60.0  # after its deadline, a response is given up even if its server seems to be there
UNDER_WAY = ("queued", "in_progress")
_ITEM: TypeAdapter[Item] = TypeAdapter(Item)


class Kept:
    """One project's responses and conversations.

    `max_items`: no prompt could hold more, so no more are looked for. A response takes `timeout_s` at the longest.
    """

    def __init__(self, store: Store, project: str, presence: Presence, *, max_items: int, timeout_s: float) -> None:
        self._store = store
        self.project = project
        self._presence = presence
        self._max_items = max_items
        self._timeout_s = timeout_s

    # --- responses

    async def save(self, body: Json, input_items: Sequence[Json] | None = None, events: Sequence[Json] = ()) -> None:
        """Writes a response, over what was kept of it before. Without `input_items` those there are stay.

        `events` are those that it has told; of one under way, they also say who makes it.
        """
        held = None if input_items is None else [Held(item["id"], item) for item in input_items]
        stored = self._object(RESPONSE, body["id"], body, body)
        if events:
            await self._save_events(body, events)
        await self._store.put(replace(stored, model=body["model"], metadata=body["metadata"]), held)
        await self._save_output(body)

    async def finish(self, body: Json, events: Sequence[Json]) -> bool:
        """Writes down how a response ended that was under way, and what it told. False if it is gone, or has another
        ending: none is written over."""
        if await self._end(body["id"], body) != body:  # the same if it was written, and nobody heard that it was
            return False
        await self._save_events(body, events)
        await self._save_output(body)
        return True

    async def cancel(self, id: str) -> None:
        """Ends a response that another server makes, which notices and stops. What was written so far is there only."""
        await self._end(id, {"status": "cancelled"})

    async def as_it_is(self, id: str) -> Json | None:
        """A response, whoever makes it."""
        found = await self._store.get(RESPONSE, id, self.project)
        return dict(found.body) if found else None

    async def _end(self, id: str, ending: Json) -> Json | None:
        """The response, with this ending if it had none."""

        def end(kept: StoredObject) -> StoredObject:
            return replace(kept, body={**kept.body, **ending}) if kept.body["status"] in UNDER_WAY else kept

        changed = await self._store.update(RESPONSE, id, self.project, end)
        return dict(changed.body) if changed else None

    async def _save_events(self, body: Json, events: Sequence[Json]) -> None:
        told = {"events": list(events), "server": self._presence.id}
        await self._store.put(self._object(_EVENTS, body["id"], told, body))

    async def _save_output(self, body: Json) -> None:
        for item in body["output"]:
            await self._store.put(self._object(_OUTPUT_ITEM, item["id"], {"response": body["id"]}, body))

    def _object(self, kind: str, id: str, body: Json, response: Json) -> StoredObject:
        """Something that is kept as long as its response."""
        created_at = int(response["created_at"])
        about: Any = {"project": self.project, "created_at": created_at, "expires_at": created_at + KEPT_S}
        return StoredObject(kind=kind, id=id, body=body, **about)

    async def response(self, id: str) -> Json:
        body = await self._found(id)
        if body is None:
            raise not_found("Response", id)
        return body

    async def events(self, body: Json, after: int = -1) -> list[Json] | None:
        """Those of a response that is over behind number `after`. If it was ended by another server than the one that
        made it, that is told in any case, under a new number."""
        found = await self._store.get(_EVENTS, body["id"], self.project)
        if found is None:
            return None
        events: list[Json] = found.body["events"]
        if events[-1]["type"] == "response.queued":
            return [*events[after + 1 :], *ending_event(body, max(len(events), after + 1))]
        return events[after + 1 :]

    async def _found(self, id: str) -> Json | None:
        """A response, given up if nobody makes it any more."""
        found = await self._store.get(RESPONSE, id, self.project)
        if found is None or found.body["status"] not in UNDER_WAY:
            return dict(found.body) if found else None
        told = await self._store.get(_EVENTS, id, self.project)
        is_late = time.time() > found.created_at + self._timeout_s + _GRACE_S
        if not is_late and told is not None and await self._presence.is_there(told.body.get("server", "")):
            return dict(found.body)
        error = {"code": "server_error", "message": "The server was stopped."}
        return await self._end(id, {"status": "failed", "error": error})

    async def delete_response(self, id: str) -> None:
        body = await self.response(id)
        for item in body["output"]:
            await self._store.delete(_OUTPUT_ITEM, item["id"], self.project)
        await self._store.delete(_EVENTS, id, self.project)
        await self._store.delete(RESPONSE, id, self.project)

    async def input_items(self, body: Json) -> list[Json]:
        """What was put to a response, oldest first: the thread before it, then its own input.

        Of a conversation only what was added to it: the rest is there.
        """
        before = await self.thread(body["previous_response_id"]) if body["previous_response_id"] else []
        return [*before, *await self._own_items(body["id"])]

    async def thread(self, last: str) -> list[Json]:
        """The items of a response, those it gave included, and of all before it. Raises APIError if one is gone."""
        newest_first: list[list[Json]] = []
        id: str | None = last
        num_items = 0
        while id is not None and num_items <= self._max_items:
            body = await self._found(id)
            if body is None:
                message = f"Previous response with id '{id[:100]}' not found."
                raise APIError(message, param="previous_response_id", code="previous_response_not_found")
            if body["status"] in UNDER_WAY:
                raise invalid("The previous response is not complete yet.", "previous_response_id")
            newest_first.append([*await self._own_items(id), *body["output"]])
            num_items += len(newest_first[-1])
            id = body["previous_response_id"]
        return [item for items in reversed(newest_first) for item in items]

    async def _own_items(self, id: str) -> list[Json]:
        page = await self._store.items(RESPONSE, id, self.project, limit=self._max_items + 1)
        return [dict(item.body) for item in page.data] if page else []

    async def output_item(self, id: str) -> Json | None:
        """An item that a kept response gave."""
        found = await self._store.get(_OUTPUT_ITEM, id, self.project)
        response = await self._store.get(RESPONSE, found.body["response"], self.project) if found else None
        output = response.body["output"] if response else ()
        return next((item for item in output if item["id"] == id), None)

    # --- conversations

    async def items_of(self, conversation_id: str) -> list[Json]:
        """The newest items of a conversation, oldest first."""
        page = await self._store.items(
            CONVERSATION, conversation_id, self.project, limit=self._max_items + 1, order="desc"
        )
        if page is None:
            raise not_found("Conversation", conversation_id, "conversation")
        return [dict(item.body) for item in reversed(page.data)]

    async def add_to(self, conversation_id: str, added: Sequence[Json]) -> None:
        """Puts items behind those of a conversation, if it is still there; those of a known id get a new one."""
        try:
            held = [Held(item["id"], item) for item in added]
            await self._store.append(CONVERSATION, conversation_id, self.project, held)
        except ValueError:
            renamed = [{**item, "id": new_id(item["type"])} for item in added]
            held = [Held(item["id"], item) for item in renamed]
            await self._store.append(CONVERSATION, conversation_id, self.project, held)


def placed(param: str, items: Sequence[Json]) -> list[Placed]:
    """Kept items, to be read again."""
    return [Placed(param, _ITEM.validate_python(item)) for item in items]


def distinct(items: Sequence[Json]) -> list[Json]:
    """The items, each with an id that no other has."""
    known: set[str] = set()
    renamed: list[Json] = []
    for item in items:
        id = new_id(item["type"]) if item["id"] in known else item["id"]
        known.add(id)
        renamed.append({**item, "id": id})
    return renamed
