"""The database: SQLite in memory or in a file, or PostgreSQL, brought to the newest schema when it is opened.

Work on it is a function of a connection, run in a thread: `await database.read(work)` or `await database.write(work)`,
each in a transaction of its own. A write that has returned is on the disk: it survives the end of the process by
SIGKILL, and of the machine as far as its disk keeps its word.

Threads rather than SQLAlchemy's asyncio: on SQLite a read takes 0.14 ms against 0.30 ms with aiosqlite, 500 of them at
once 61 ms against 190 ms (two cores). aiosqlite too has a thread for each connection, and crosses over more often.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import StaticPool

MIGRATIONS = Path(__file__).parent / "migrations"
IN_MEMORY = "sqlite://"

_POSTGRES_CONNECTIONS = 8
_SQLITE_READERS = 2
_BUSY_S = 30.0  # how long another process may hold SQLite's lock
_AGAIN_S = 0.02  # behind which what it refuses is tried again
_MIGRATION_LOCK = 0x53454E53  # of PostgreSQL: servers that start at once migrate one after the other

T = TypeVar("T")


class Database:
    def __init__(self, engine: Engine, *, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._readers = readers
        self._writers = writers

    @classmethod
    def open(cls, url: str = IN_MEMORY) -> Database:
        """Connects and migrates; blocks meanwhile.

        `url` is `sqlite://` (in memory), `sqlite:///file` or `postgresql://user:password@host/name`. Raises ValueError
        for any other, where a database can't be reached, and for one that a newer version has migrated.
        """
        engine = _engine(_read_url(url))
        try:
            with engine.connect().execution_options(writes=True) as connection:
                _migrate(connection)
        except OperationalError as error:
            engine.dispose()
            where = engine.url.render_as_string(hide_password=True)
            raise ValueError(f"the database {where} can't be opened: {error.orig}") from None
        except ValueError:
            engine.dispose()
            raise
        name = "sensorium-database"
        if engine.dialect.name == "postgresql":
            both = ThreadPoolExecutor(_POSTGRES_CONNECTIONS, name)
            return cls(engine, readers=both, writers=both)
        # one writer: SQLite has one lock, and waiting for it in a queue is fair
        writers = ThreadPoolExecutor(1, name)
        in_memory = isinstance(engine.pool, StaticPool)
        return cls(engine, readers=writers if in_memory else ThreadPoolExecutor(_SQLITE_READERS, name), writers=writers)

    @property
    def in_memory(self) -> bool:
        return isinstance(self._engine.pool, StaticPool)

    @property
    def is_shared(self) -> bool:
        """Whether it is made for several servers at once: PostgreSQL."""
        return self._engine.dialect.name == "postgresql"

    @property
    def file(self) -> Path | None:
        """Where an SQLite database on a disk lies."""
        return None if self.in_memory or self.is_shared else Path(str(self._engine.url.database))

    def hold(self) -> Held:
        return Held(self._engine)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work, False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Returns what `work` does once it is committed; if it raises, nothing has happened."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._run, work, True)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """The same for callers that may block: the command line, and the server before it serves."""
        return self._writers.submit(self._run, work, True).result()

    def close(self) -> None:
        """Ends once the work that has begun is done."""
        self._readers.shutdown()
        self._writers.shutdown()
        self._engine.dispose()

    def _run(self, work: Callable[[Connection], T], writes: bool) -> T:
        with self._engine.connect().execution_options(writes=writes) as connection, connection.begin():
            return work(connection)


class Held:
    """One connection, for what lasts as long as it does, such as session locks. It is made again if it breaks.

    Every statement is a transaction of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._driver: Any = engine.dialect.dbapi  # whose errors come of statements that are put to it directly
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "sensorium-held")

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def close(self) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _run(self, work: Callable[[Connection], T]) -> T:
        for last in (False, True):
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                return work(self._connection)
            except (
                OperationalError,
                self._driver.OperationalError,
            ):  # the server has gone, with all that the connection held: maybe it is back
                self._close()
                if last:
                    raise
            finally:
                if self._connection is not None:
                    self._connection.rollback()
        raise AssertionError("the last attempt returns or raises")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # not back to the pool: what it holds has to go
            self._connection.close()
            self._connection = None


def _read_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError("database must be a URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        return url
    raise ValueError(f"database {url.drivername!r} is not known: there are sqlite:///FILE and postgresql://...")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            # a connection that the server has dropped meanwhile is made again
            most = _POSTGRES_CONNECTIONS + 2  # for limits and presence, which hold theirs
            return create_engine(url, pool_size=most, max_overflow=0, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise ValueError("PostgreSQL needs its driver: pip install 'sensorium[postgres]'") from None
    options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_S, "check_same_thread": False}}
    if url.database in (None, "", ":memory:"):
        options["poolclass"] = StaticPool  # the one connection is the database
    else:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    # FULL: a commit has reached the disk when it returns. WAL: one sync for that, and readers don't wait
    _write_ahead(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    """For the change itself SQLite does not wait as it does for everything else, if another server makes it too."""
    until_s = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_AGAIN_S)


def _begin_sqlite(connection: Connection) -> None:
    # with the lock from the start: a transaction that read first could be refused it, and would be lost
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    """Raises ValueError for a database that is newer than this code."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        known = {revision.revision for revision in scripts.walk_revisions()}
        for revision in MigrationContext.configure(connection).get_current_heads():
            if revision not in known:
                raise ValueError(
                    f"the database is at revision {revision}, which this version does not know: a newer version of "
                    "sensorium has been here. Use that version, or another database"
                )
        config.attributes["connection"] = connection  # for migrations/env.py
        command.upgrade(config, "head")
