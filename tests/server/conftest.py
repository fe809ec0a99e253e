from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.live import Live, live


@pytest.fixture(scope="package")
def server() -> Iterator[Live]:
    with live() as running:
        yield running
