"""What the platform keeps, opened together: the database with the store on it, and the objects.

Without a folder or a URL everything is in memory and ends with the process: nothing of anybody's conversations is
written to a disk unless an operator has said where.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sensorium.platform.database import IN_MEMORY, Database
from sensorium.platform.keys import Keys, any_keys
from sensorium.platform.objects import ObjectStorage
from sensorium.platform.presence import Presence
from sensorium.platform.projects import Projects
from sensorium.platform.seals import Sealer
from sensorium.platform.store import Store
from sensorium.platform.usage import UsageLog


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    database: Database
    store: Store
    objects: ObjectStorage
    keys: Keys
    projects: Projects
    usage: UsageLog
    sealer: Sealer
    presence: Presence
    has_keys: bool  # when it was opened

    @classmethod
    def open(cls, folder: Path | None = None, *, database: str | None = None, objects: str | None = None) -> State:
        """Opens `folder/sensorium.db` and `folder/objects`, each unless a URL names another place. Migrates, blocking.

        Raises ValueError for what can't be opened.
        """
        storage = ObjectStorage.open(objects) if objects else _storage(folder)
        opened = Database.open(database or (f"sqlite:///{folder / 'sensorium.db'}" if folder else IN_MEMORY))
        return cls(
            database=opened,
            store=Store(opened),
            objects=storage,
            keys=Keys(opened),
            projects=Projects(opened),
            usage=UsageLog(opened),
            sealer=Sealer.open(opened),
            presence=Presence(opened),
            has_keys=opened.write_now(any_keys),
        )

    @property
    def outlives_process(self) -> bool:
        return not self.database.in_memory

    async def aclose(self) -> None:
        """Writes what is still to be written, and closes."""
        try:
            await self.usage.close()
        finally:
            self.close()

    def close(self) -> None:
        self.presence.close()
        self.database.close()


def _storage(folder: Path | None) -> ObjectStorage:
    if folder is None:
        return ObjectStorage.open()
    try:
        return ObjectStorage.open(folder / "objects")
    except OSError as error:
        raise ValueError(f"the state folder {folder} can't be used: {error.strerror}") from None
