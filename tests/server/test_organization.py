"""Keys and projects, by the official client; and what each key opens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sensorium.platform.keys import NewKey, insert_key, new_key
from sensorium.platform.state import State
from sensorium.server.access import Doorkeeper
from sensorium.server.config import ServerConfig
from tests.server.live import Live, envelope, live


def first_admin(folder: Path | None, database: str | None = None) -> NewKey:
    state = State.open(folder, database=database, objects="memory:///")
    made = new_key("first", project=None)
    state.database.write_now(lambda connection: insert_key(connection, made))
    state.close()
    return made


@pytest.fixture(params=["sqlite", "postgres"])
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Live, NewKey]]:
    """A server that asks for keys, and the admin key of its operator."""
    database = request.getfixturevalue("new_postgres")() if request.param == "postgres" else None
    admin = first_admin(tmp_path, database)
    with live(state=tmp_path, database=database) as server:
        yield server, admin


def client(server: Live, key: str, admin: bool = False) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none" if admin else key,
        admin_api_key=key if admin else None,
        max_retries=0,
        _strict_response_validation=True,
    )


def says_hello(server: Live, key: str) -> str:
    try:
        with client(server, key) as asker:
            message = {"role": "user", "content": "hi"}
            asker.chat.completions.create(model="gpt-4o", messages=[message])  # pyright: ignore
    except openai.APIStatusError as error:
        return f"{error.status_code} {error.code}"
    return "ok"


def test_the_life_of_a_key(keyed: tuple[Live, NewKey]):
    server, first = keyed
    with client(server, first.secret, admin=True) as admin:
        organization = admin.admin.organization
        project = organization.projects.create(name="Lab")
        assert (project.object, project.status, project.archived_at) == ("organization.project", "active", None)
        accounts = organization.projects.service_accounts
        account = accounts.create(project.id, name="robot")
        assert account.api_key is not None
        assert account.role == "member"
        secret = account.api_key.value
        assert secret.startswith("sk-svcacct-")
        assert says_hello(server, secret) == "ok"
        assert says_hello(server, secret[:-1]) == "401 invalid_api_key"

        keys = organization.projects.api_keys
        shown = keys.retrieve(account.api_key.id, project_id=project.id)
        assert shown.redacted_value == f"sk-svcacct-...{secret[-4:]}"
        assert shown.owner.service_account is not None
        assert shown.owner.service_account.id == account.id
        assert shown.last_used_at is not None
        assert secret not in httpx_text(server, first, f"/v1/organization/projects/{project.id}/api_keys")

        second = accounts.api_keys.create(account.id, project_id=project.id, name="reader", scopes=["api.models.read"])
        assert says_hello(server, second.value) == "403 insufficient_permissions"
        with client(server, second.value) as reader:
            assert len(list(reader.models.list())) > 1
        keys.update(second.id, project_id=project.id, scopes=["api.chat.write"])
        assert says_hello(server, second.value) == "ok"
        assert [key.id for key in keys.list(project.id, limit=1)] == [account.api_key.id, second.id]  # by pages

        assert keys.delete(second.id, project_id=project.id).deleted
        assert says_hello(server, second.value) == "401 invalid_api_key"
        assert accounts.retrieve(account.id, project_id=project.id).name == "robot"
        assert accounts.update(account.id, project_id=project.id, name="droid", role="owner").role == "owner"
        assert [found.name for found in accounts.list(project.id)] == ["droid"]
        assert accounts.delete(account.id, project_id=project.id).deleted
        assert says_hello(server, secret) == "401 invalid_api_key"


def test_a_client_secret_ends_with_the_key_that_asked_for_it(keyed: tuple[Live, NewKey]):
    server, first = keyed

    def calls(secret: str) -> bool:
        url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
        try:
            with connect(url, additional_headers={"authorization": f"Bearer {secret}"}):
                return True
        except InvalidStatus as refused:
            return refused.response.status_code != 401

    with client(server, first.secret, admin=True) as admin:
        organization = admin.admin.organization
        lab = organization.projects.create(name="Calls")
        accounts = organization.projects.service_accounts
        robot, other = (accounts.create(lab.id, name=name).api_key for name in ("robot", "other"))
        assert robot
        assert other
        made: list[str] = []
        for key in (robot, other):
            with client(server, key.value) as asker:
                made.append(asker.realtime.client_secrets.create().value)
        assert [calls(secret) for secret in made] == [True, True]
        organization.projects.api_keys.delete(robot.id, project_id=lab.id)
        assert [calls(secret) for secret in made] == [False, True]
        organization.projects.archive(lab.id)
        assert [calls(secret) for secret in made] == [False, False]


def httpx_text(server: Live, key: NewKey, path: str) -> str:
    return server.http.get(path, headers={"authorization": f"Bearer {key.secret}"}).text


def test_keys_expire(keyed: tuple[Live, NewKey]):
    server, first = keyed
    with client(server, first.secret, admin=True) as admin:
        organization = admin.admin.organization
        account = organization.projects.service_accounts.create("proj_default", name="brief", expires_in_seconds=1)
        assert account.api_key is not None
        assert account.api_key.expires_at is not None
        time.sleep(max(0.0, account.api_key.expires_at - time.time()) + 0.01)
        assert says_hello(server, account.api_key.value) == "401 invalid_api_key"
        with pytest.raises(openai.BadRequestError, match="expired"):
            organization.projects.api_keys.update(account.api_key.id, project_id="proj_default", expires_in_seconds=100)


def test_admin_keys(keyed: tuple[Live, NewKey]):
    server, first = keyed
    with client(server, first.secret, admin=True) as admin:
        admin_keys = admin.admin.organization.admin_api_keys
        made = [admin_keys.create(name=f"admin {number}", expires_in_seconds=1000) for number in range(3)]
        listed = list(admin_keys.list(limit=2))
        assert [key.id for key in listed] == [first.key.id, *(key.id for key in made)]
        assert [key.id for key in admin_keys.list(order="desc", limit=3)] == [key.id for key in reversed(listed)]
        assert admin_keys.retrieve(made[0].id).name == "admin 0"
        assert made[0].owner.role == "owner"
        assert says_hello(server, made[0].value) == "403 insufficient_permissions"
        with client(server, made[0].value, admin=True) as another:
            assert another.admin.organization.admin_api_keys.delete(first.key.id).deleted
        with pytest.raises(openai.AuthenticationError):
            admin_keys.list()


def test_an_archived_project_is_closed(keyed: tuple[Live, NewKey]):
    server, first = keyed
    with client(server, first.secret, admin=True) as admin:
        projects = admin.admin.organization.projects
        old = projects.create(name="old")
        account = projects.service_accounts.create(old.id, name="robot")
        assert account.api_key is not None
        assert says_hello(server, account.api_key.value) == "ok"
        assert projects.update(old.id, name="older").name == "older"
        assert projects.archive(old.id).status == "archived"
        assert says_hello(server, account.api_key.value) == "401 invalid_api_key"
        assert [project.id for project in projects.list()] == ["proj_default"]
        assert [project.id for project in projects.list(include_archived=True, limit=1)] == ["proj_default", old.id]
        with pytest.raises(openai.BadRequestError, match="archived"):
            projects.service_accounts.create(old.id, name="late")
        with pytest.raises(openai.BadRequestError, match="default project"):
            projects.archive("proj_default")


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda organization: organization.projects.retrieve("proj_none"), 404),
        (lambda organization: organization.projects.api_keys.list("proj_none"), 404),
        (lambda organization: organization.projects.api_keys.retrieve("key_x", project_id="proj_default"), 404),
        (lambda organization: organization.projects.api_keys.delete("\0", project_id="proj_default"), 404),
        (lambda organization: organization.projects.service_accounts.delete("x", project_id="proj_default"), 404),
        (lambda organization: organization.admin_api_keys.delete("key_x"), 404),
        (lambda organization: organization.admin_api_keys.list(after="key_x"), 400),
        (lambda organization: organization.admin_api_keys.list(limit=101), 400),
        (lambda organization: organization.admin_api_keys.create(name=""), 400),
        (lambda organization: organization.admin_api_keys.create(name="a\0"), 400),
        (lambda organization: organization.admin_api_keys.create(name="a", expires_in_seconds=0), 400),
        (lambda organization: organization.admin_api_keys.create(name="a", expires_in_seconds=31_536_001), 400),
        (lambda organization: organization.projects.create(name="a", geography="EU"), 400),
        (lambda organization: organization.projects.create(name=None), 400),
        (lambda organization: organization.projects.create(name="a", extra_body={"x": 1}), 400),
        (
            lambda organization: organization.projects.service_accounts.create(
                "proj_default", name="a", create_service_account_only=True, expires_in_seconds=5
            ),
            400,
        ),
        (
            lambda organization: organization.projects.api_keys.update("k", project_id="proj_default", scopes=["all"]),
            400,
        ),
    ],
)
def test_what_cannot_be_done_is_refused(ask: Callable, status: int, server: Live):
    with client(server, "none", admin=True) as admin, pytest.raises(openai.APIStatusError) as caught:
        ask(admin.admin.organization)
    assert caught.value.status_code == status
    assert caught.value.type == "invalid_request_error"


def test_keys_of_the_settings_open_what_they_did(tmp_path: Path):
    first_admin(tmp_path)
    with live(state=tmp_path, api_keys=("sk-config",)) as server:
        assert says_hello(server, "sk-config") == "ok"
        headers = {"authorization": "Bearer sk-config"}
        assert server.http.get("/metrics", headers=headers).status_code == 200
        response = server.http.get("/v1/organization/projects", headers=headers)
        assert response.status_code == 403
        assert envelope(response) == (None, "insufficient_permissions")


def test_metrics_are_the_operators(keyed: tuple[Live, NewKey]):
    server, first = keyed
    assert server.http.get("/metrics").status_code == 401
    assert server.http.get("/metrics", headers={"authorization": f"Bearer {first.secret}"}).status_code == 200
    with client(server, first.secret, admin=True) as admin:
        account = admin.admin.organization.projects.service_accounts.create("proj_default", name="robot")
    assert account.api_key is not None
    response = server.http.get("/metrics", headers={"authorization": f"Bearer {account.api_key.value}"})
    assert response.status_code == 403


def test_where_no_key_is_needed_a_known_one_still_counts(server: Live):
    assert server.http.get("/v1/organization/projects").status_code == 200
    with client(server, "anything", admin=True) as admin:
        account = admin.admin.organization.projects.service_accounts.create("proj_default", name="robot")
    assert account.api_key is not None
    headers = {"authorization": f"Bearer {account.api_key.value}"}
    assert server.http.get("/v1/organization/projects", headers=headers).status_code == 403
    assert server.http.get("/v1/models", headers=headers).status_code == 200
    assert server.http.get("/v1/models").status_code == 200


def test_a_server_open_to_the_network_needs_a_key(tmp_path: Path):
    config = ServerConfig(host="0.0.0.0", state=tmp_path)
    state = State.open(tmp_path)
    with pytest.raises(ValueError, match="sensorium keys create"):
        Doorkeeper.of(config, state)
    state.close()
    first_admin(tmp_path)
    state = State.open(tmp_path)
    assert Doorkeeper.of(config, state).keys_needed
    state.close()


def test_secrets_are_in_no_file_of_the_state(tmp_path: Path):
    admin = first_admin(tmp_path)
    with live(state=tmp_path) as server:
        assert (
            httpx2.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {admin.secret}"}).status_code == 200
        )
        kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert admin.key.id.encode() in kept
    assert admin.secret.removeprefix("sk-admin-").encode() not in kept
