"""What every test may rely on: no network, one CPU thread, servers where clients need some, databases.

`make test` runs the files in two processes (pytest-xdist): what a fixture of the session starts, each has of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks are fastest on one thread, and tests share the machine

import secrets
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest

from sensorium.cli import RELEASED
from tests.postgres import folder_of_programs, postgres
from tests.serving import serve


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test: they would make it slow, flaky and dependent on strangers."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


def pytest_configure(config: pytest.Config) -> None:
    """Where two processes compile the kernels at once, numba may mix up what it keeps: one keeps it in the tree."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if worker != "gw0" and config.cache is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(config.cache.mkdir(f"kernels-{worker}")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test has to tell, whichever process it ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.line(value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def fake_server() -> Iterator[str]:
    """The URL of a server with scripted answers."""
    with serve("--fake") as url:
        yield url


@pytest.fixture(scope="session")
def released_server() -> Iterator[str]:
    """The URL of a server of the shipped weights."""
    assert RELEASED.is_dir(), "no weights are shipped"
    with serve(timeout_s=300) as url:  # the first start in a fresh clone compiles the kernels
        yield url


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    if folder_of_programs() is None:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    with postgres() as url:
        yield url


@pytest.fixture
def new_postgres(postgres_cluster: str) -> Callable[[], str]:
    """Makes an empty database, and gives its URL."""

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(postgres_cluster, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return postgres_cluster.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path) -> str:
    """An empty database that outlives its connections, of every kind in turn."""
    if request.param == "postgres":
        return request.getfixturevalue("new_postgres")()
    return f"sqlite:///{tmp_path}/state/sensorium.db"
