"""POST /v1/chat/completions through the official client, as an application would use it."""

from __future__ import annotations

import base64
import io
from typing import Any

import av
import numpy as np
import openai
import PIL.Image
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import TypeAdapter

from tests.server.live import Live, eventually, live
from tests.server.samples import audio_part, data_url, image_part, mp3, picture, wav
from tests.server.test_fetch import reply, web

SPOKEN: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def says(*content: Any) -> list[ChatCompletionMessageParam]:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return [{"role": "user", "content": parts}]  # pyright: ignore[reportReturnType]


def test_a_question_and_an_answer(client: openai.OpenAI):
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert raw.headers["x-request-id"].startswith("req_")
    completion = raw.parse()
    assert completion.choices[0].message.content == 'You said "hi".'
    assert completion.usage is not None
    assert completion.usage.total_tokens == 4
    assert completion._request_id == raw.headers["x-request-id"]
    TypeAdapter(ChatCompletion).validate_json(raw.content, strict=True)


def test_a_stream_and_its_accumulated_end(client: openai.OpenAI):
    with client.chat.completions.stream(
        model="gpt-4o", messages=says("hi"), stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        completion = stream.get_final_completion()
    assert kinds.count("content.delta") == 4  # the opening chunk has an empty one
    assert "content.done" in kinds
    assert completion.choices[0].message.content == 'You said "hi".'
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


def test_every_chunk_is_of_the_clients_type(client: openai.OpenAI, server: Live):
    adapter = TypeAdapter(ChatCompletionChunk)
    for question, fields in (("hi", {}), ("hi", SPOKEN), ("draw it", {}), ("call add {}", {"tools": TOOLS})):
        text = server.chat(question, stream=True, stream_options={"include_usage": True}, **fields).text
        for line in text.split("\n\n")[:-2]:
            adapter.validate_json(line.removeprefix("data: "))


def test_pictures_and_clips(client: openai.OpenAI):
    parts = (image_part(data_url(picture())), audio_part(wav()), audio_part(mp3(), "mp3"))
    completion = client.chat.completions.create(model="gpt-4o-audio-preview", messages=says("look", *parts))
    said = completion.choices[0].message.content
    assert said == 'You said "look". I got a clip of 1000 ms and a clip of 1000 ms and a picture of 8 x 6.'
    details = completion.usage and completion.usage.prompt_tokens_details
    assert details is not None
    assert (details.image_tokens, details.audio_tokens, details.text_tokens) == (64, 26, 1)


def test_a_picture_by_url():
    with web(lambda handler: reply(handler, picture("JPEG"))) as url, live(allow_private_urls=True) as server:
        completion = server.official().chat.completions.create(
            model="gpt-4o", messages=says(image_part(f"{url}/a.jpg"))
        )
        assert completion.choices[0].message.content == "I got a picture of 8 x 6."


def test_a_private_url_is_refused(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=says(image_part("http://169.254.169.254/latest/")))
    assert (caught.value.param, caught.value.code) == ("messages[0].content[0].image_url", "invalid_image_url")


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "opus", "aac", "pcm16"])
def test_speech_in_every_format(client: openai.OpenAI, format: Any):
    completion = client.chat.completions.create(
        model="gpt-4o-audio-preview",
        messages=says("hi"),
        modalities=["text", "audio"],
        audio={"voice": "sage", "format": format},
    )
    message = completion.choices[0].message
    assert message.content is None
    assert message.audio is not None
    assert message.audio.transcript == 'You said "hi".'
    data = base64.b64decode(message.audio.data)
    if format == "pcm16":
        waveform, rate_hz = np.frombuffer(data, "<i2") / 32768, 24_000
    else:
        with av.open(io.BytesIO(data), "r") as container:
            rate_hz = container.streams.audio[0].codec_context.sample_rate
            resampler = av.AudioResampler(format="flt", layout="mono")
            frames = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
            waveform = np.concatenate(frames)
    assert abs(len(waveform) / rate_hz - 0.48) < 0.1
    assert 0.2 < np.abs(waveform).max() < 0.5  # a tone of 0.3, and the mark in it


def test_streamed_speech_accumulates_to_the_whole(client: openai.OpenAI):
    with client.chat.completions.stream(model="gpt-4o-audio-preview", messages=says("hi"), **SPOKEN) as stream:
        for _ in stream:
            pass
        audio = stream.get_final_completion().choices[0].message.audio
    whole = client.chat.completions.create(model="gpt-4o", messages=says("hi"), **SPOKEN).choices[0].message.audio
    assert audio is not None
    assert whole is not None
    assert (audio.transcript, audio.data) == (whole.transcript, whole.data)
    assert audio.id != whole.id


def test_a_spoken_conversation(client: openai.OpenAI, server: Live):
    messages = says("hi")
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, **SPOKEN).choices[0].message
    assert answer.audio
    messages += [{"role": "assistant", "audio": {"id": answer.audio.id}}, *says("again")]
    client.chat.completions.create(model="gpt-4o", messages=messages, **SPOKEN)
    assert len(server.engine.requests[-1].messages) == 3
    messages[1] = answer  # pyright: ignore[reportArgumentType, reportCallIssue]  # applications append the object itself
    client.chat.completions.create(model="gpt-4o", messages=messages, **SPOKEN)
    assert len(server.engine.requests[-1].messages) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop(client: openai.OpenAI, stream: bool):
    messages = says('call add {"a": 1}')
    if stream:
        with client.chat.completions.stream(model="gpt-4o", messages=messages, tools=TOOLS) as events:
            events.until_done()
            choice = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call: Any = choice.message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("add", '{"a": 1}')
    messages += [
        choice.message,  # pyright: ignore[reportArgumentType]
        {"role": "tool", "tool_call_id": call.id, "content": "2"},
    ]
    assert client.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS).choices


def test_choices_and_stop(client: openai.OpenAI):
    completion = client.chat.completions.create(
        model="gpt-4o", messages=says("a b c"), n=2, stop=["b"], temperature=1, seed=3
    )
    assert [choice.message.content for choice in completion.choices] == ['You said "a ', 'You said "a ']


def test_a_drawn_picture_is_in_images(client: openai.OpenAI):
    message: Any = client.chat.completions.create(model="gpt-4o", messages=says("draw a square")).choices[0].message
    stream = client.chat.completions.create(model="gpt-4o", messages=says("draw a square"), stream=True)
    deltas: list[Any] = [chunk.choices[0].delta for chunk in stream]
    [streamed] = [delta.images for delta in deltas if hasattr(delta, "images")]
    whole, again = (pixels_in(images[0]["image_url"]["url"]) for images in (message.images, streamed))
    assert np.array_equal(whole, again)  # the credentials in the files tell when each was made


def pixels_in(url: str) -> np.ndarray:
    header, data = url.split(",")
    assert header == "data:image/png;base64"
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, None, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "decimal_above_max_value"),
        ({"extra_body": {"surprise": 1}}, openai.BadRequestError, "surprise", "unknown_parameter"),
        ({"stream": True, "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
         openai.BadRequestError, "audio.format", "unsupported_value"),
    ],
)  # fmt: skip
def test_errors_reach_the_client(client: openai.OpenAI, fields: dict[str, Any], kind: Any, param: Any, code: str):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "gpt-4o", "messages": says("hi"), **fields})
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", param, code)
    assert error.request_id.startswith("req_")


def test_a_wrong_key():
    with live(api_keys=("sk-right",)) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError, match="not valid"):
                client.models.list()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-right") as client:
            assert client.models.list().data


def test_an_error_in_mid_stream_is_raised_by_the_client():
    with live() as server:
        server.engine.error, server.engine.error_after = RuntimeError("secret"), 2
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
            stream = client.chat.completions.create(model="gpt-4o", messages=says("hi"), stream=True)
            with pytest.raises(openai.APIError, match="had an error"):
                list(stream)


def test_closing_a_stream_stops_the_engine():
    with live() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        server.engine.delay_ms = 20
        stream = client.chat.completions.create(model="gpt-4o", messages=says("word " * 500), stream=True)
        next(iter(stream))
        stream.close()
        eventually(lambda: server.engine.num_cancelled == 1)


def test_models(client: openai.OpenAI):
    assert "gpt-4o" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-4o").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nope")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_the_async_client(server: Live):
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        stream = await client.chat.completions.create(model="gpt-4o", messages=says("hi"), stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(texts) == 'You said "hi".'
