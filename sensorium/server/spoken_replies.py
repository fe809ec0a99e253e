"""What the assistant said of late in chats, so that a later request may refer to it by id (`audio: {"id": ...}`)."""

from __future__ import annotations

import secrets
import time

import numpy as np
import structlog

from sensorium.messages import Audio
from sensorium.platform.objects import ObjectStorage
from sensorium.platform.store import Store, StoredObject
from sensorium.server.logs import describe

log = structlog.get_logger()

_KIND = "spoken_reply"
_OLDEST_AT_ONCE = 20


def let_sound_go(store: Store, objects: ObjectStorage) -> None:
    """From now on the sound of a reply goes when the store drops the reply."""
    store.when_dropped(_KIND, lambda id: objects.delete(_key(id)))


class SpokenReplies:
    """One project's, kept where the server's state is. Bounded in time and bytes: the oldest go first."""

    def __init__(self, store: Store, objects: ObjectStorage, project: str, *, ttl_s: int, max_bytes: int) -> None:
        self._store = store
        self._objects = objects
        self._project = project
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes

    def new_id(self) -> str:
        return f"audio_{secrets.token_hex(12)}"

    async def keep(self, id: str, audio: Audio) -> int:
        """Remembers a reply under an id. Returns when it will be forgotten, in Unix seconds."""
        now = int(time.time())
        expires_at = now + self._ttl_s
        sound = audio.waveform.astype("<f4").tobytes()
        about = {"sample_rate_hz": audio.sample_rate_hz, "transcript": audio.transcript, "voice": audio.voice}
        kept = StoredObject(
            kind=_KIND,
            id=id,
            project=self._project,
            created_at=now,
            expires_at=expires_at,
            body={**about, "cut": audio.cut},
            num_bytes=len(sound),
        )
        try:
            await self._objects.put(_key(id), sound)  # first, so that whatever the store knows is there
            await self._store.put(kept)
            await self._make_room()
        except Exception as error:  # the reply itself is well
            log.error("a spoken reply could not be kept", **describe(error))
        return expires_at

    async def find(self, id: str) -> Audio | None:
        kept = await self._store.get(_KIND, id, self._project)
        sound = await self._objects.get(_key(id)) if kept else None
        if kept is None or sound is None:
            return None
        return Audio(waveform=np.frombuffer(sound, "<f4").astype(np.float32), **kept.body)

    async def _make_room(self) -> None:
        while (excess := (await self._store.total(_KIND, self._project)).num_bytes - self._max_bytes) > 0:
            for reply in (await self._store.list(_KIND, self._project, limit=_OLDEST_AT_ONCE)).data:
                await self._store.delete(_KIND, reply.id, self._project)
                await self._objects.delete(_key(reply.id))
                excess -= reply.num_bytes
                if excess <= 0:
                    break


def _key(id: str) -> str:
    return f"replies/{id}"
