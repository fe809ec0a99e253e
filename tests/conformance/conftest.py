from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.server.live import Live, live


@pytest.fixture(scope="package")
def server() -> Iterator[Live]:
    with live() as running:
        yield running


@pytest.fixture
def client(server: Live) -> Iterator[openai.OpenAI]:
    """The official client, unmodified. It checks every answer against its own types, where it otherwise guesses."""
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="sk-x", max_retries=0, _strict_response_validation=True) as client:
        yield client
