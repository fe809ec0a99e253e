"""The Agents SDK for Python in a call: it runs the tool, breaks off what it plays, and keeps the history itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeModelConfig, RealtimeRunner

from tests.conformance.dialogue import HEARD_S, RESULTS, check, slow_server, spoken


async def test_a_spoken_conversation_with_a_tool_that_is_interrupted():
    asked: list[str] = []

    @function_tool
    def weather(town: str) -> str:
        """Says what the weather is in a town."""
        asked.append(town)
        return RESULTS[len(asked) - 1]

    with slow_server() as server:
        config: RealtimeModelConfig = {
            "api_key": "sk-x",
            "url": f"{server.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime",
            "initial_model_settings": {
                "voice": "echo",
                "tool_choice": "required",
                "input_audio_transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            },
        }
        agent = RealtimeAgent(name="forecaster", instructions="Be brief.", tools=[weather])
        told: list[Any] = []
        events: list[dict[str, Any]] = []
        async with asyncio.timeout(30), await RealtimeRunner(agent).run(model_config=config) as session:
            for piece in spoken():
                await session.send_audio(piece)
            has_broken_in = False
            async for event in session:
                told.append(event)
                if event.type == "audio" and not has_broken_in:
                    has_broken_in = True
                    await asyncio.sleep(HEARD_S)
                    for piece in spoken():
                        await session.send_audio(piece)
                if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                    events.append(json.loads(json.dumps(event.data.data)))
                    done = [event for event in events if event["type"] == "response.done"]
                    if len(done) == 4:
                        break
        check(events, server)
    kinds = [event.type for event in told]
    assert kinds.count("audio_interrupted") == 1
    assert kinds.count("tool_end") == 2
    assert asked == ["word"] * 2
    assert "error" not in kinds
