"""Projects: whose things are whose. Service accounts hold a project's keys that belong to no person."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from sensorium.platform.database import Database
from sensorium.platform.pages import Page, can_be_id, fetch_page
from sensorium.platform.tables import projects, service_accounts

DEFAULT_PROJECT = "proj_default"  # of everybody who has no other; it is always there

Role = Literal["owner", "member", "none"]


@dataclass(frozen=True, kw_only=True)
class Project:
    id: str
    name: str
    created_at: int  # seconds since 1970
    archived_at: int | None = None  # since then its keys open nothing


@dataclass(frozen=True, kw_only=True)
class ServiceAccount:
    id: str
    project: str
    name: str
    role: Role
    created_at: int


class Projects:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str) -> Project:
        return await self._database.write(lambda connection: create_project(connection, name))

    async def named(self, name: str | None) -> Project:
        """The project of this id or name, or a new one of this name; without one, the default project."""
        wanted = or_(projects.c.id == name, projects.c.name == name) if name else projects.c.id == DEFAULT_PROJECT

        def work(connection: Connection) -> Project:
            row = connection.execute(select(projects).where(wanted).order_by(projects.c.seq).limit(1)).one_or_none()
            if row is None:
                assert name is not None, "the default project is always there"
                return create_project(connection, name)
            return _project(row)

        return await self._database.write(work)

    async def get(self, id: str) -> Project | None:
        return await self._database.read(lambda connection: find_project(connection, id))

    async def rename(self, id: str, name: str) -> Project | None:
        return await self._change(id, {"name": name})

    async def archive(self, id: str) -> Project | None:
        """Raises ValueError for the default project."""
        if id == DEFAULT_PROJECT:
            raise ValueError("the default project can't be archived")
        return await self._change(id, {"archived_at": int(time.time())})

    async def list(self, *, after: str | None, limit: int, archived: bool) -> Page[Project]:
        """Raises UnknownCursor."""
        query = select(projects)
        if not archived:
            query = query.where(projects.c.archived_at.is_(None))
        return await self._database.read(
            lambda connection: fetch_page(
                connection, query, _project, table=projects, scope=[], after=after, limit=limit, order="asc"
            )
        )

    async def create_account(self, project: str, name: str, role: Role) -> ServiceAccount:
        account = ServiceAccount(
            id=f"svc_acct_{secrets.token_hex(12)}", project=project, name=name, role=role, created_at=int(time.time())
        )
        statement = insert(service_accounts).values(vars(account))
        await self._database.write(lambda connection: connection.execute(statement))
        return account

    async def account(self, project: str, id: str) -> ServiceAccount | None:
        if not can_be_id(id):
            return None
        query = select(service_accounts).where(service_accounts.c.project == project, service_accounts.c.id == id)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return _account(row) if row else None

    async def change_account(
        self, project: str, id: str, *, name: str | None, role: Role | None
    ) -> ServiceAccount | None:
        changed = {key: value for key, value in (("name", name), ("role", role)) if value is not None}
        if changed and can_be_id(id):
            statement = (
                update(service_accounts)
                .where(service_accounts.c.project == project, service_accounts.c.id == id)
                .values(changed)
            )
            await self._database.write(lambda connection: connection.execute(statement))
        return await self.account(project, id)

    async def delete_account(self, project: str, id: str) -> bool:
        """Whether it was there. Its keys go with it."""
        if not can_be_id(id):
            return False
        statement = delete(service_accounts).where(service_accounts.c.project == project, service_accounts.c.id == id)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount > 0)

    async def accounts(self, project: str, *, after: str | None, limit: int) -> Page[ServiceAccount]:
        """Raises UnknownCursor."""
        scope = [service_accounts.c.project == project]
        query = select(service_accounts).where(*scope)
        return await self._database.read(
            lambda connection: fetch_page(
                connection, query, _account, table=service_accounts, scope=scope, after=after, limit=limit, order="asc"
            )
        )

    async def _change(self, id: str, changed: dict[str, Any]) -> Project | None:
        def work(connection: Connection) -> Project | None:
            if not can_be_id(id):
                return None
            connection.execute(update(projects).where(projects.c.id == id).values(changed))
            return find_project(connection, id)

        return await self._database.write(work)


def create_project(connection: Connection, name: str) -> Project:
    project = Project(id=f"proj_{secrets.token_hex(12)}", name=name, created_at=int(time.time()))
    connection.execute(insert(projects).values(vars(project)))
    return project


def find_project(connection: Connection, id: str) -> Project | None:
    if not can_be_id(id):
        return None
    row = connection.execute(select(projects).where(projects.c.id == id)).one_or_none()
    return _project(row) if row else None


def _project(row: Row[Any]) -> Project:
    return Project(id=row.id, name=row.name, created_at=row.created_at, archived_at=row.archived_at)


def _account(row: Row[Any]) -> ServiceAccount:
    return ServiceAccount(id=row.id, project=row.project, name=row.name, role=row.role, created_at=row.created_at)
