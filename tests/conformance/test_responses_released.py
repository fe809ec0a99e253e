"""The Responses API with the shipped weights behind it: an agent really switches a lamp."""

from __future__ import annotations

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool

pytestmark = pytest.mark.slow


@pytest.fixture
def url(released_server: str) -> str:
    return f"{released_server}/v1"


def test_a_thread(url: str):
    with openai.OpenAI(base_url=url, api_key="none", _strict_response_validation=True) as client:
        first = client.responses.create(model="gpt-4o", input="what is two plus three")
        assert "five" in first.output_text
        second = client.responses.create(
            model="gpt-4o", input="what is four plus four", previous_response_id=first.id, store=False
        )
        assert "eight" in second.output_text


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_switches_a_lamp(url: str, streamed: bool):
    switched: list[tuple[str, str, str]] = []

    @function_tool
    def set_device(device: str, room: str, state: str) -> str:
        """Switches a device in a room."""
        switched.append((device, room, state))
        return "ok"

    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        agent = Agent(name="home", model=OpenAIResponsesModel("gpt-4o", client), tools=[set_device])
        asked, config = "turn on the lamp in the kitchen", RunConfig(tracing_disabled=True)
        if streamed:
            result = Runner.run_streamed(agent, asked, run_config=config)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, asked, run_config=config)
    assert switched == [("lamp", "kitchen", "on")]
    assert result.final_output == "the kitchen lamp is on"
