"""/v1/organization: admin keys, projects, their service accounts and keys. Admin keys open it, see `access.py`.

One server is one organisation. It has no users: what belongs to nobody else belongs to its operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import Field, field_validator

from sensorium.platform.keys import ApiKey, Keys, new_key
from sensorium.platform.pages import Page
from sensorium.platform.projects import DEFAULT_PROJECT, Project, Projects, Role, ServiceAccount
from sensorium.server.access import SCOPES, check_scopes
from sensorium.server.body import read_json
from sensorium.server.chat_request import Wire
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid, missing, unsupported, validated
from sensorium.server.listing import page_found
from sensorium.server.query import Query, read_query

Json = dict[str, Any]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Seconds = Annotated[int, Field(ge=1, le=100 * 366 * 86_400)]
AdminSeconds = Annotated[int, Field(ge=1, le=365 * 86_400)]  # the contract's most

_ADMIN_KEYS = "/v1/organization/admin_api_keys"
_PROJECTS = "/v1/organization/projects"
_PROJECT = _PROJECTS + "/{project_id}"
_KEYS = _PROJECT + "/api_keys"
_ACCOUNTS = _PROJECT + "/service_accounts"

T = TypeVar("T")
W = TypeVar("W", bound=Wire)


class KeyList(Query):
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"


class ProjectList(Query):
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    include_archived: bool = False


class AccountList(Query):
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class ProjectKeyList(AccountList):
    owner_project_access: Literal["active", "inactive", "any"] = "any"


class NewAdminKey(Wire):
    name: Name
    expires_in_seconds: AdminSeconds | None = None


class ProjectFields(Wire):
    name: Name | None = None
    external_key_id: str | None = None
    geography: str | None = None
    residency: Any = None


class NewAccount(Wire):
    name: Name
    create_service_account_only: bool | None = None
    expires_in_seconds: Seconds | None = None


class AccountFields(Wire):
    name: Name | None = None
    role: Literal["owner", "member"] | None = None


class _Scoped(Wire):
    scopes: Annotated[list[str], Field(max_length=len(SCOPES))] | None = None

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: list[str] | None) -> list[str] | None:
        check_scopes(scopes or ())
        return scopes


class NewAccountKey(_Scoped):
    name: Name = "Secret key"
    expires_in_seconds: Seconds | None = None


class KeyFields(_Scoped):
    expires_in_seconds: Seconds | None = None


class Organization:
    def __init__(self, keys: Keys, projects: Projects, config: ServerConfig) -> None:
        self._keys = keys
        self._projects = projects
        self._config = config

    def routes(self) -> APIRouter:
        router = APIRouter()
        for method, path, answer in (
            ("GET", _ADMIN_KEYS, self.list_admin_keys),
            ("POST", _ADMIN_KEYS, self.create_admin_key),
            ("GET", _ADMIN_KEYS + "/{key_id}", self.retrieve_admin_key),
            ("DELETE", _ADMIN_KEYS + "/{key_id}", self.delete_admin_key),
            ("GET", _PROJECTS, self.list_projects),
            ("POST", _PROJECTS, self.create_project),
            ("GET", _PROJECT, self.retrieve_project),
            ("POST", _PROJECT, self.change_project),
            ("POST", _PROJECT + "/archive", self.archive_project),
            ("GET", _KEYS, self.list_keys),
            ("GET", _KEYS + "/{key_id}", self.retrieve_key),
            ("POST", _KEYS + "/{key_id}", self.change_key),
            ("DELETE", _KEYS + "/{key_id}", self.delete_key),
            ("GET", _ACCOUNTS, self.list_accounts),
            ("POST", _ACCOUNTS, self.create_account),
            ("GET", _ACCOUNTS + "/{account_id}", self.retrieve_account),
            ("POST", _ACCOUNTS + "/{account_id}", self.change_account),
            ("DELETE", _ACCOUNTS + "/{account_id}", self.delete_account),
            ("POST", _ACCOUNTS + "/{account_id}/api_keys", self.create_account_key),
        ):
            router.add_api_route(path, answer, methods=[method])
        return router

    # --- admin keys

    async def list_admin_keys(self, http: Request) -> Json:
        asked = read_query(http, KeyList)
        page = await page_found(self._keys.list(project=None, after=asked.after, limit=asked.limit, order=asked.order))
        owner = await self._operator("organization.user")
        return _list_body(page, lambda key: _admin_key_body(key, owner))

    async def create_admin_key(self, http: Request) -> Json:
        asked = await self._read(http, NewAdminKey)
        made = new_key(asked.name, project=None, expires_at=_in(asked.expires_in_seconds))
        await self._keys.add(made)
        return {**_admin_key_body(made.key, await self._operator("organization.user")), "value": made.secret}

    async def retrieve_admin_key(self, key_id: str) -> Json:
        key = _found(await self._keys.get(key_id, project=None), "key", key_id)
        return _admin_key_body(key, await self._operator("organization.user"))

    async def delete_admin_key(self, key_id: str) -> Json:
        _found(await self._keys.delete(key_id, project=None) or None, "key", key_id)
        return _deleted(key_id, "organization.admin_api_key")

    # --- projects

    async def list_projects(self, http: Request) -> Json:
        asked = read_query(http, ProjectList)
        page = self._projects.list(after=asked.after, limit=asked.limit, archived=asked.include_archived)
        return _list_body(await page_found(page), _project_body)

    async def create_project(self, http: Request) -> Json:
        asked = await self._read_project(http)
        if asked.name is None:
            raise missing("name")
        return _project_body(await self._projects.create(asked.name))

    async def retrieve_project(self, project_id: str) -> Json:
        return _project_body(await self._project(project_id))

    async def change_project(self, project_id: str, http: Request) -> Json:
        asked = await self._read_project(http)
        project = await self._project(project_id)
        if asked.name is not None:
            project = _found(await self._projects.rename(project_id, asked.name), "project", project_id)
        return _project_body(project)

    async def archive_project(self, project_id: str) -> Json:
        await self._project(project_id)
        try:
            project = _found(await self._projects.archive(project_id), "project", project_id)
        except ValueError as error:
            raise invalid(f"{str(error).capitalize()}.", "project_id") from None
        self._keys.forget()
        return _project_body(project)

    # --- keys of a project

    async def list_keys(self, project_id: str, http: Request) -> Json:
        asked = read_query(http, ProjectKeyList)
        project = await self._project(project_id)
        if asked.owner_project_access == "inactive":
            return _list_body(Page([], False), lambda key: key)
        page = await page_found(self._keys.list(project=project_id, after=asked.after, limit=asked.limit))
        bodies = [await self._key_body(key, project) for key in page.data]
        return _list_body(Page(bodies, page.has_more), lambda body: body)

    async def retrieve_key(self, project_id: str, key_id: str) -> Json:
        project = await self._project(project_id)
        key = _found(await self._keys.get(key_id, project=project_id), "key", key_id)
        return await self._key_body(key, project)

    async def change_key(self, project_id: str, key_id: str, http: Request) -> Json:
        asked = await self._read(http, KeyFields)
        project = await self._project(project_id)
        key = _found(await self._keys.get(key_id, project=project_id), "key", key_id)
        if key.expires_at is not None and key.expires_at <= time.time():
            raise invalid("The key has expired: an expired key can't be changed.", "key_id")
        expires_at = _in(asked.expires_in_seconds)
        changed = await self._keys.change(key_id, project=project_id, scopes=asked.scopes, expires_at=expires_at)
        return await self._key_body(_found(changed, "key", key_id), project)

    async def delete_key(self, project_id: str, key_id: str) -> Json:
        await self._project(project_id)
        _found(await self._keys.delete(key_id, project=project_id) or None, "key", key_id)
        return _deleted(key_id, "organization.project.api_key")

    # --- service accounts

    async def list_accounts(self, project_id: str, http: Request) -> Json:
        asked = read_query(http, AccountList)
        await self._project(project_id)
        page = await page_found(self._projects.accounts(project_id, after=asked.after, limit=asked.limit))
        return _list_body(page, _account_body)

    async def create_account(self, project_id: str, http: Request) -> Json:
        asked = await self._read(http, NewAccount)
        project = await self._active_project(project_id)
        if asked.create_service_account_only and asked.expires_in_seconds is not None:
            raise invalid("Without a key there is nothing that could expire.", "expires_in_seconds")
        role: Role = "none" if asked.create_service_account_only else "member"
        account = await self._projects.create_account(project.id, asked.name, role)
        if asked.create_service_account_only:
            return {**_account_body(account), "api_key": None}
        secret = await self._add_key(account, "Secret key", expires_at=_in(asked.expires_in_seconds))
        return {**_account_body(account), "api_key": secret}

    async def retrieve_account(self, project_id: str, account_id: str) -> Json:
        return _account_body(await self._account(project_id, account_id))

    async def change_account(self, project_id: str, account_id: str, http: Request) -> Json:
        asked = await self._read(http, AccountFields)
        await self._project(project_id)
        account = await self._projects.change_account(project_id, account_id, name=asked.name, role=asked.role)
        return _account_body(_found(account, "service account", account_id))

    async def delete_account(self, project_id: str, account_id: str) -> Json:
        await self._project(project_id)
        deleted = await self._projects.delete_account(project_id, account_id)
        self._keys.forget()
        _found(deleted or None, "service account", account_id)
        return _deleted(account_id, "organization.project.service_account")

    async def create_account_key(self, project_id: str, account_id: str, http: Request) -> Json:
        asked = await self._read(http, NewAccountKey)
        await self._active_project(project_id)
        account = await self._account(project_id, account_id)
        return await self._add_key(
            account, asked.name, scopes=asked.scopes or [], expires_at=_in(asked.expires_in_seconds)
        )

    # --- what they share

    async def _add_key(
        self, account: ServiceAccount, name: str, *, scopes: list[str] | None = None, expires_at: int | None
    ) -> Json:
        """A new key of the account, as it is shown this once."""
        made = new_key(
            name, project=account.project, service_account=account.id, scopes=scopes or (), expires_at=expires_at
        )
        await self._keys.add(made)
        return {
            "object": "organization.project.service_account.api_key",
            "value": made.secret,
            "name": made.key.name,
            "created_at": made.key.created_at,
            "expires_at": made.key.expires_at,
            "id": made.key.id,
        }

    async def _key_body(self, key: ApiKey, project: Project) -> Json:
        account = await self._projects.account(project.id, key.service_account) if key.service_account else None
        if account is not None:
            names = ("id", "name", "role", "created_at")
            owner = {"type": "service_account", "service_account": {name: getattr(account, name) for name in names}}
        else:
            owner = {"type": "user", "user": await self._operator()}
        return {
            "object": "organization.project.api_key",
            "redacted_value": key.redacted,
            "name": key.name,
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
            "expires_at": key.expires_at,
            "scopes": list(key.scopes),
            "id": key.id,
            "owner": owner,
            "owner_project_access": "active",
        }

    async def _operator(self, object: str | None = None) -> Json:
        """Whose the keys are that belong to no service account: as old as the database."""
        default = await self._projects.get(DEFAULT_PROJECT)
        assert default is not None
        who = {"id": "user_operator", "name": "Operator", "role": "owner", "created_at": default.created_at}
        return {**who, "type": "user", "object": object} if object else {**who, "email": "operator@localhost"}

    async def _project(self, id: str) -> Project:
        return _found(await self._projects.get(id), "project", id)

    async def _active_project(self, id: str) -> Project:
        project = await self._project(id)
        if project.archived_at is not None:
            raise invalid("The project is archived.", "project_id")
        return project

    async def _account(self, project_id: str, id: str) -> ServiceAccount:
        await self._project(project_id)
        return _found(await self._projects.account(project_id, id), "service account", id)

    async def _read(self, http: Request, model: type[W]) -> W:
        return validated(model, await read_json(http, self._config))

    async def _read_project(self, http: Request) -> ProjectFields:
        asked = await self._read(http, ProjectFields)
        for field in ("external_key_id", "geography", "residency"):
            if getattr(asked, field) is not None:
                raise unsupported(field, "everything lies where the operator of this server keeps it")
        return asked


def _found(thing: T | None, what: str, id: str) -> T:
    if thing is None:
        raise APIError(f"There is no {what} '{id[:100]}' here.", status=404, code="not_found")
    return thing


def _in(seconds: int | None) -> int | None:
    return None if seconds is None else int(time.time()) + seconds


def _list_body(page: Page[T], body: Callable[[T], Json]) -> Json:
    data = [body(item) for item in page.data]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": page.has_more}


def _deleted(id: str, object: str) -> Json:
    return {"id": id, "object": f"{object}.deleted", "deleted": True}


def _admin_key_body(key: ApiKey, owner: Json) -> Json:
    return {
        "object": "organization.admin_api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": key.redacted,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "owner": owner,
    }


def _project_body(project: Project) -> Json:
    status = "active" if project.archived_at is None else "archived"
    return {"object": "organization.project", **vars(project), "status": status}


def _account_body(account: ServiceAccount) -> Json:
    body = {"object": "organization.project.service_account", **vars(account)}
    del body["project"]
    return body
