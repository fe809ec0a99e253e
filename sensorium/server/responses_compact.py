"""A conversation made shorter, in a form that clients carry: what POST /v1/responses/compact gives and takes back.

Its output is the users' messages that are left, as they were said, and behind them one `compaction`: the order of the
turns with everything else that is left of them, sealed. In a later request the compaction puts all of it together
again. A user's message that the client has taken out stays out; one that it has changed is read before the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sensorium.engine.request import Usage
from sensorium.platform.seals import Sealer
from sensorium.server.errors import invalid
from sensorium.server.responses_items import (
    MAX_SEALED_CHARS,
    Compaction,
    FunctionCall,
    FunctionCallOutput,
    Item,
    UserMessage,
)
from sensorium.server.responses_kept import distinct, placed
from sensorium.server.responses_messages import Json, Placed, Turn, forget, new_id, resource
from sensorium.server.responses_reply import usage_body
from sensorium.server.responses_request import Thread

_SAID = "user"  # the one key of an entry that stands for a user's message, by the digest of what was said


class CompactRequest(Thread):
    model: str | None

    # accepted and ignored, as the contract says: nothing is computed that could be cached or hurried
    prompt_cache_key: Annotated[str, Field(max_length=64)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "priority", "fast"] | None = None


class Compactions:
    """Makes and reads them, each for one project only."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def compact(self, turns: Sequence[Turn], project: str) -> Json:
        """What is left of a conversation as the body that a client gets. Raises APIError where it is too large."""
        return await asyncio.to_thread(self._compact, turns, project)

    def _compact(self, turns: Sequence[Turn], project: str) -> Json:
        while True:
            items = distinct(
                [resource(item) for item in _answered([placed for turn in turns for placed in turn.items])]
            )
            said = [item for item in items if item.get("role") == "user"]
            entries = [{_SAID: _digest(item["content"])} if item.get("role") == "user" else item for item in items]
            sealed = self._sealer.seal(zlib.compress(json.dumps(entries).encode()), about=project)
            if len(sealed) <= MAX_SEALED_CHARS:
                break
            if len(turns) == 1:
                raise invalid(f"The newest turn alone takes more than {MAX_SEALED_CHARS} characters.", "input")
            turns = forget(turns)
        return {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [*said, {"id": new_id("compaction"), "type": "compaction", "encrypted_content": sealed}],
            "usage": usage_body(Usage()),  # the network neither reads nor writes for it
        }

    async def expand(self, items: Sequence[Placed], project: str) -> list[Placed]:
        """The conversation with what compactions stand for in their places. Raises APIError for one that isn't ours."""
        if not any(isinstance(item, Compaction) for _, item in items):
            return list(items)
        return await asyncio.to_thread(self._expand, items, project)  # decrypts and unpacks, maybe megabytes

    def _expand(self, items: Sequence[Placed], project: str) -> list[Placed]:
        expanded: list[Placed] = []
        for param, item in items:
            if isinstance(item, Compaction):
                expanded = _put_together(expanded, self._entries(item, project, param))
            else:
                expanded.append(Placed(param, item))
        return expanded

    def _entries(self, item: Compaction, project: str, param: str) -> list[Placed | str]:
        """Items, and digests of what users said."""
        where = f"{param}.encrypted_content" if "[" in param else param  # of what is kept, only its field is known
        try:
            entries = json.loads(zlib.decompress(self._sealer.unseal(item.encrypted_content, about=project)))
            return [entry[_SAID] if _SAID in entry else placed(where, [entry])[0] for entry in entries]
        except ValueError:  # of pydantic too: an older version may have sealed what can't be read any more
            message = "The encrypted content could not be verified: it was not made here, or it was changed."
            raise invalid(message, where, "invalid_encrypted_content") from None


def _put_together(before: Sequence[Placed], entries: Sequence[Placed | str]) -> list[Placed]:
    """A compaction's turns, with what users said from before it in their places, behind whatever else is there."""
    said: defaultdict[str, list[int]] = defaultdict(list)
    for index, (_, item) in enumerate(before):
        if isinstance(item, UserMessage):
            said[_digest(resource(item)["content"])].append(index)
    taken: set[int] = set()
    turns: list[Placed] = []
    for entry in reversed(entries):  # of messages that say the same, the newest are the compaction's
        if isinstance(entry, Placed):
            turns.insert(0, entry)
        elif said[entry]:
            taken.add(index := said[entry].pop())
            turns.insert(0, before[index])
    return [*(placed for index, placed in enumerate(before) if index not in taken), *turns]


def _answered(items: Sequence[Placed]) -> list[Item]:
    """Without results of calls that have gone with an older turn."""
    call_ids: set[str] = set()
    kept: list[Item] = []
    for _, item in items:
        if isinstance(item, FunctionCall):
            call_ids.add(item.call_id)
        if not isinstance(item, FunctionCallOutput) or item.call_id in call_ids:
            kept.append(item)
    return kept


def _digest(content: Sequence[Json]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
