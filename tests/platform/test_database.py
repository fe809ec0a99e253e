"""Opening, migrating and refusing databases; what was acknowledged is there after a kill."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from sensorium.platform.database import Database
from sensorium.platform.store import Item, Store, StoredObject
from sensorium.platform.tables import schema
from tests.serving import ROOT


async def test_migrations_make_the_tables_of_the_schema(database_url: str):
    database = Database.open(database_url)

    def differences(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, schema)

    assert await database.read(differences) == []
    names = await database.read(lambda connection: inspect(connection).get_table_names())
    assert {*schema.tables, "alembic_version"} == set(names)
    database.close()


async def test_what_was_written_is_there_after_opening_it_again(database_url: str):
    for turn in range(3):
        database = Database.open(database_url)
        store = Store(database)
        await store.put(StoredObject(kind="x", id=f"x_{turn}", project="p", created_at=turn, body={"turn": turn}))
        assert len((await store.list("x", "p")).data) == turn + 1
        database.close()


async def test_files_of_an_older_version_are_counted(database_url: str):
    database = Database.open(database_url)
    file = StoredObject(kind="file", id="file-1", project="p", created_at=1, body={"bytes": 1234}, num_bytes=1234)
    await Store(database).put(file)

    def as_before(connection):
        connection.execute(text("ALTER TABLE objects DROP COLUMN num_bytes"))
        for later in ("cached_audio", "cached_image"):
            connection.execute(text(f"ALTER TABLE usage DROP COLUMN {later}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))

    await database.write(as_before)
    database.close()
    database = Database.open(database_url)
    assert await Store(database).get("file", "file-1", "p") == file
    database.close()


async def test_a_newer_database_is_refused_and_left_alone(database_url: str):
    database = Database.open(database_url)
    await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    for _ in range(2):
        with pytest.raises(ValueError, match="9999, which this version does not know: a newer version"):
            Database.open(database_url)


async def test_a_write_that_fails_leaves_nothing(database_url: str):
    database = Database.open(database_url)
    store = Store(database)
    await store.put(StoredObject(kind="x", id="a", project="p", created_at=1, body={"n": 1}), [Item("i", {})])

    def change(old: StoredObject) -> StoredObject:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await store.update("x", "a", "p", change)
    with pytest.raises(ValueError, match="already"):
        await store.append("x", "a", "p", [Item("j", {}), Item("i", {})])
    found = await store.items("x", "a", "p")
    assert found is not None
    assert [item.id for item in found.data] == ["i"]
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "must be a URL"),
        ("mysql://host/name", "'mysql' is not known"),
        ("sqlite+aiosqlite:///x", "is not known"),
        ("sqlite:////proc/nowhere.db", "can't be opened"),
        ("postgresql://someone:secret@127.0.0.1:1/x", "can't be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_clear_error(url: str, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)


def test_the_folder_of_a_new_file_is_its_owners(tmp_path: Path):
    Database.open(f"sqlite:///{tmp_path}/state/sensorium.db").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


WRITER = """
import asyncio, sys
from sensorium.platform.database import Database
from sensorium.platform.store import Item, Store, StoredObject

async def main():
    store = Store(Database.open(sys.argv[1]))
    async def write(worker):
        for number in range(100_000):
            id = f"x_{worker}_{number}"
            body = {"number": number, "text": "word " * 200}
            await store.put(StoredObject(kind="x", id=id, project="p", created_at=number, body=body), [Item("i", {})])
            print(id, flush=True)
    await asyncio.gather(*(write(worker) for worker in range(4)))

asyncio.run(main())
"""


def ids_acknowledged_before_a_kill(database_url: str, num_written: int) -> list[str]:
    command = [sys.executable, "-c", WRITER, database_url]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(num_written)]
        writer.kill()
        acknowledged += writer.stdout.readlines()
    return [line.strip() for line in acknowledged if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.parametrize("num_written", [1, 60])
async def test_every_acknowledged_write_survives_a_kill(num_written: int, database_url: str):
    acknowledged = await asyncio.to_thread(ids_acknowledged_before_a_kill, database_url, num_written)
    assert len(acknowledged) >= num_written
    database = Database.open(database_url)
    store = Store(database)
    for id in acknowledged:
        found = await store.get("x", id, "p")
        assert found is not None, f"{id} was acknowledged and is lost"
        assert found.body["text"] == "word " * 200
        assert await store.item("x", id, "p", "i") is not None
    database.close()


async def test_servers_that_start_at_once_migrate_once(database_url: str):
    databases = await asyncio.gather(*(asyncio.to_thread(Database.open, database_url) for _ in range(4)))
    for number, database in enumerate(databases):
        await Store(database).put(StoredObject(kind="x", id=str(number), project="p", created_at=1, body={}))
    assert len((await Store(databases[0]).list("x", "p")).data) == 4
    for database in databases:
        database.close()
