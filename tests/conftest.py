"""What every test may rely on: no network, one CPU thread, and a served fake where a client needs a server."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks are fastest on one thread, and tests share the machine

import socket
from collections.abc import Iterator

import pytest

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
