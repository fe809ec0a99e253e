"""A plugin for the official client's own tests: leaves out those that no server has a part in."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Missing arguments the client refuses itself, its two halves are alike without a server, and what is mocked is
    answered inside the test."""
    alone = {item for item in items if "path_params" in item.name or "method_in_sync" in item.name}
    alone |= {item for item in items if "respx2_mock" in getattr(item, "fixturenames", ())}
    config.hook.pytest_deselected(items=list(alone))
    items[:] = [item for item in items if item not in alone]
