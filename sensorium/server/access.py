"""Who may come in: API keys of the operator's settings and of the database, and what each may do.

Keys are needed where there are any; whether there are is settled at start, and a server that is open to the network
does not start without. Where none is needed, whoever reaches this machine from itself may do everything; a key that is
known still says whose things are asked for, and opens what it opens.

A key of a project may have scopes: `api.<area>.<read or write>`, where the area is the path's first part behind `/v1/`
or `all`. Reading is GET; whoever may write may read.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from sensorium.platform.keys import ApiKey, Keys
from sensorium.platform.projects import DEFAULT_PROJECT
from sensorium.platform.state import State
from sensorium.server.config import ServerConfig, is_loopback
from sensorium.server.errors import APIError

AREAS = (
    *("all", "audio", "batches", "chat", "completions", "conversations", "embeddings", "evals", "files"),
    *("fine_tuning", "images", "models", "moderations", "realtime", "responses", "uploads"),
)
SCOPES = tuple(f"api.{area}.{right}" for area in AREAS for right in ("read", "write"))

_CONFIG_KEY = "key_config_"  # and its place in the settings
_ADMIN_PATH = "/v1/organization/"
_KEY_SUBPROTOCOL = "openai-insecure-api-key."


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a caller may do, and who is told to have done it."""

    key_id: str | None = None  # none: nobody asked for one
    project: str = DEFAULT_PROJECT
    uses_models: bool = True
    administers: bool = True
    scopes: tuple[str, ...] = ()  # empty: all


ANYONE = Access()


class Doorkeeper:
    def __init__(self, config: ServerConfig, keys: Keys, *, keys_needed: bool) -> None:
        self._config = config
        self._keys = keys
        self.keys_needed = keys_needed

    @classmethod
    def of(cls, config: ServerConfig, state: State) -> Doorkeeper:
        """Raises ValueError where the server would be open to the network and nobody had a key to it."""
        has_keys = bool(config.api_keys) or state.has_keys
        if not has_keys and not is_loopback(config.host):
            raise ValueError(
                f"host {config.host!r} is open to the network and there is no key: make one with "
                "`sensorium keys create`, or give one with --api-key"
            )
        return cls(config, state.keys, keys_needed=has_keys)

    async def admit(self, scope: Scope) -> Access:
        """Raises APIError for callers who may not do what they ask for."""
        headers = Headers(scope=scope)
        # a web page whose name is made to point at this machine is of the same origin, but says its own name
        if not self.keys_needed and not is_loopback(host_name(headers.get("host", ""))):
            raise APIError("Without API keys this server answers on localhost only.", status=403)
        path = scope["path"]
        if not path.startswith("/v1/") and path != "/metrics":
            return ANYONE
        scheme, _, key = authorization(scope).partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        access = await self._access(key) if key else None
        if access is None:
            if not self.keys_needed:
                return ANYONE
            if not key:
                message = "You did not provide an API key: send the header 'Authorization: Bearer <key>'."
                raise APIError(message, status=401)
            raise APIError("The API key is not valid here.", status=401, code="invalid_api_key")
        _check_rights(access, path, reads=scope.get("method") in ("GET", "HEAD"))
        return access

    async def _access(self, key: str) -> Access | None:
        # every key is compared in full, so that the time taken tells nothing about any of them
        told = key.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(told, known.encode()) for known in self._config.api_keys]
        if any(matches):
            return Access(key_id=f"{_CONFIG_KEY}{matches.index(True)}", administers=False)
        found = await self._keys.find(key)
        return _of_key(found) if found else None

    async def still_admits(self, access: Access) -> bool:
        """Whether who was let in as this one would be let in again: what a key has handed out ends with the key."""
        id = access.key_id
        return id is None or id.startswith(_CONFIG_KEY) or await self._keys.opens(id)


def check_scopes(scopes: Sequence[str]) -> None:
    """Raises ValueError for a scope that there is not."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise ValueError(f"there is no scope {unknown[0][:100]!r}; there are {', '.join(SCOPES)}")


def authorization(scope: Scope) -> str:
    """The header, or what takes its place: browsers can't set one on a socket, and offer the key as a subprotocol."""
    told = Headers(scope=scope).get("authorization")
    if told:
        return told
    offered: list[str] = scope.get("subprotocols") or []
    keys = [name.removeprefix(_KEY_SUBPROTOCOL) for name in offered if name.startswith(_KEY_SUBPROTOCOL)]
    return f"Bearer {keys[0]}" if keys else ""


def check_origin(origin: str | None, config: ServerConfig) -> None:
    """A browser lets any page open a socket or send a form anywhere, and says only whose page it was. Raises APIError
    for a page that is neither of this machine nor among those allowed."""
    if origin is None or "*" in config.cors_origins or origin in config.cors_origins:
        return
    if not is_loopback(host_name(origin.partition("://")[2])):
        raise APIError("Pages of this origin may not connect here.", status=403)


def host_name(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _of_key(key: ApiKey) -> Access:
    if key.project is None:
        return Access(key_id=key.id, uses_models=False)
    return Access(key_id=key.id, project=key.project, administers=False, scopes=key.scopes)


def _check_rights(access: Access, path: str, *, reads: bool) -> None:
    if path.startswith(_ADMIN_PATH):
        if not access.administers:
            raise APIError("This endpoint needs an admin key.", status=403, code="insufficient_permissions")
        return
    if path == "/metrics":
        if access.scopes or not (access.administers or (access.key_id or "").startswith(_CONFIG_KEY)):
            raise APIError("This page needs an admin key.", status=403, code="insufficient_permissions")
        return
    if not access.uses_models:
        raise APIError("An admin key opens /v1/organization only.", status=403, code="insufficient_permissions")
    area = path.split("/")[2]
    allowed = {
        f"api.{name}.{right}" for name in (area, "all") for right in (("read", "write") if reads else ("write",))
    }
    if access.scopes and not allowed & set(access.scopes):
        missing = f"api.{area}.{'read' if reads else 'write'}"
        message = f"The API key does not allow this. Missing scope: {missing}"
        raise APIError(message, status=403, code="insufficient_permissions")
