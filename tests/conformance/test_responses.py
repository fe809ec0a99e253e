"""The Responses API through the official client and the Agents SDK, as an application would use them."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner, function_tool
from pydantic import BaseModel

from tests.server.live import Live, eventually, live
from tests.server.samples import data_url, picture

ADD: Any = {
    "type": "function",
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "strict": False,
}


def test_a_question_and_an_answer(client: openai.OpenAI):
    response = client.responses.create(model="gpt-4o", input="hi", instructions="Be brief.")
    assert response.output_text == 'You said "hi".'
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens == 6
    assert response._request_id is not None


def test_the_stream_helper(client: openai.OpenAI):
    with client.responses.stream(model="gpt-4o", input="hi") as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == 'You said "hi".'


def test_a_raw_stream(client: openai.OpenAI):
    events = list(client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop(client: openai.OpenAI, streamed: bool):
    said: list[Any] = [{"role": "user", "content": 'call add {"a": 1}'}]
    if streamed:
        with client.responses.stream(model="gpt-4o", input=said, tools=[ADD]) as stream:
            done = [event.arguments for event in stream if event.type == "response.function_call_arguments.done"]
            output: Any = stream.get_final_response().output
        assert done == ['{"a": 1}']
    else:
        output = client.responses.create(model="gpt-4o", input=said, tools=[ADD]).output
    (call,) = output
    assert (call.type, call.name, call.arguments) == ("function_call", "add", '{"a": 1}')
    said += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "2"}]  # the object itself
    assert client.responses.create(model="gpt-4o", input=said, tools=[ADD]).output_text == 'You said "2".'


def test_a_picture_in_and_a_picture_out(client: openai.OpenAI):
    shown: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": data_url(picture()), "detail": "auto"},
            ],
        }
    ]
    assert "a picture of 8 x 6" in client.responses.create(model="gpt-4o", input=shown).output_text
    tools: Any = [{"type": "image_generation", "partial_images": 1}]
    with client.responses.stream(model="gpt-4o", input="draw a square", tools=tools) as stream:
        kinds = [event.type for event in stream]
        (item,) = stream.get_final_response().output
    assert kinds.count("response.image_generation_call.partial_image") == 1
    assert item.type == "image_generation_call"
    assert item.result is not None
    assert base64.b64decode(item.result).startswith(b"\x89PNG")


def test_errors_reach_the_client(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4o", input="hi", max_output_tokens=3)
    assert (caught.value.param, caught.value.code) == ("max_output_tokens", "integer_below_min_value")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-9", input="hi")


def test_a_failed_response_is_told_by_the_stream():
    with live() as server:
        server.engine.error, server.engine.error_after = RuntimeError("secret"), 2
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x", max_retries=0) as client:
            events = list(client.responses.create(model="gpt-4o", input="hi", stream=True))
    last: Any = events[-1]
    assert (last.type, last.response.error.code) == ("response.failed", "server_error")


def test_closing_a_stream_stops_the_engine():
    with live() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        server.engine.delay_ms = 20
        stream = client.responses.create(model="gpt-4o", input="word " * 500, stream=True)
        next(iter(stream))
        stream.close()
        eventually(lambda: server.engine.num_cancelled == 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_with_a_tool(server: Live, streamed: bool):
    """The loop of the Agents SDK: the model calls the function, is given its result, and answers in words."""
    asked: list[str] = []

    @function_tool
    def weather(city: str) -> str:
        """Says what the weather is in a city."""
        asked.append(city)
        return "sunny"

    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        model = OpenAIResponsesModel("gpt-4o", client)
        agent = Agent(name="forecaster", instructions="Be brief.", model=model, tools=[weather])
        agent.model_settings = ModelSettings(tool_choice="required")
        config = RunConfig(tracing_disabled=True)
        if streamed:
            result = Runner.run_streamed(agent, "how is it outside", run_config=config)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, "how is it outside", run_config=config)
    assert asked == ["word"]
    assert result.final_output == 'You said "sunny".'


class Weather(BaseModel):
    city: str
    degrees: int


def test_an_answer_in_a_form(client: openai.OpenAI):
    response = client.responses.parse(model="gpt-4o", input="how is it outside", text_format=Weather)
    assert isinstance(response.output_parsed, Weather)
    with client.responses.stream(model="gpt-4o", input="how is it outside", text_format=Weather) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Weather)


# --- state


def test_a_kept_response(client: openai.OpenAI):
    first = client.responses.create(model="gpt-4o", input="one", metadata={"a": "b"})
    second = client.responses.create(model="gpt-4o", input="two", previous_response_id=first.id)
    assert client.responses.retrieve(first.id) == first
    items: Any = client.responses.input_items.list(second.id, limit=1, order="asc")
    texts = [item.content[0].text for item in items]  # the client goes on from page to page
    assert texts == ["one", 'You said "one".', "two"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4o", input="three", previous_response_id=second.id)
    assert caught.value.code == "previous_response_not_found"


def test_counting(client: openai.OpenAI):
    counted = client.responses.input_tokens.count(model="gpt-4o", input="one two three")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 3)


def test_the_background():
    with live() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        server.engine.delay_ms = 20
        begun = client.responses.create(model="gpt-4o", input="a b c", background=True)
        assert begun.status == "queued"
        eventually(lambda: client.responses.retrieve(begun.id).status == "completed")
        assert client.responses.retrieve(begun.id).output_text == 'You said "a b c".'
        long = client.responses.create(model="gpt-4o", input="word " * 500, background=True)
        assert client.responses.cancel(long.id).status == "cancelled"


def test_a_broken_stream_is_taken_up_again():
    with live() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        server.engine.delay_ms = 20
        stream = client.responses.create(model="gpt-4o", input="a b c", background=True, stream=True)
        seen: list[Any] = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        stream.close()
        again = {"stream": True, "starting_after": seen[-1].sequence_number}
        rest: Any = client.responses.retrieve(seen[0].response.id, **again)
        seen += rest
        assert seen[-1].response.output_text == 'You said "a b c".'
        assert [event.sequence_number for event in seen] == list(range(len(seen)))


def test_a_conversation(client: openai.OpenAI):
    made = client.conversations.create(metadata={"a": "b"}, items=[{"role": "developer", "content": "Be brief."}])
    client.responses.create(model="gpt-4o", input="one", conversation=made.id)
    added: Any = client.conversations.items.create(made.id, items=[{"role": "user", "content": "two"}])
    assert [item.type for item in client.conversations.items.list(made.id, limit=2)] == ["message"] * 4
    item: Any = client.conversations.items.retrieve(added.data[0].id, conversation_id=made.id)
    assert item.content[0].text == "two"
    client.conversations.items.delete(item.id, conversation_id=made.id)
    assert len(list(client.conversations.items.list(made.id))) == 3
    assert client.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(made.id).id == made.id
    assert client.conversations.delete(made.id).deleted


def test_stored_completions(client: openai.OpenAI):
    said: Any = [{"role": "user", "content": "hi"}]
    made = [
        client.chat.completions.create(model="gpt-4o", messages=said, store=True, metadata={"run": "conformance"})
        for _ in range(3)
    ]
    listed = client.chat.completions.list(limit=2, metadata={"run": "conformance"}, model="gpt-4o")
    assert [completion.id for completion in listed] == [completion.id for completion in made]
    id = made[0].id
    assert client.chat.completions.update(id, metadata={"run": "other"}).id == id
    assert client.chat.completions.retrieve(id).choices == made[0].choices
    assert client.chat.completions.delete(id).deleted


def test_the_messages_of_a_stored_completion(server: Live):
    """Not by the client that checks: it takes what was asked for an answer, whose role is `assistant`."""
    said: Any = [{"role": "user", "content": "hi"}]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        id = client.chat.completions.create(model="gpt-4o", messages=said, store=True).id
        (message,) = client.chat.completions.messages.list(id)
        assert (message.role, message.content) == ("user", "hi")
