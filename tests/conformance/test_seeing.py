"""Pictures in high detail, pages, animations and film through the official client, which checks every answer."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from sensorium.messages import Image, Text, Video
from tests.conformance.test_chat_completions import says
from tests.server.film_samples import film_part, movie
from tests.server.live import Live
from tests.server.samples import b64, data_url, image_part, picture, striped
from tests.server.test_seeing import animation, said_pdf

FILM = movie("webm", seconds=2.0)


def test_two_pictures_are_compared_in_high_detail(client: openai.OpenAI, server: Live):
    shown = [image_part(data_url(striped(size)), detail="high") for size in ((1024, 1024), (512, 512))]
    completion = client.chat.completions.create(model="gpt-4o", messages=says("which is larger", *shown))
    assert completion.choices[0].message.content == (
        'You said "which is larger". I got a picture of 1024 x 1024 and a picture of 512 x 512.'
    )
    details = completion.usage and completion.usage.prompt_tokens_details
    assert details is not None
    assert details.image_tokens == 2 * 5 * 64
    assert (details.model_extra or {})["gpt_4o_image_tokens"] == 765 + 255
    parts = server.engine.requests[-1].messages[-1].parts
    assert [part.detail for part in parts if isinstance(part, Image)] == ["high", "high"]


def test_a_film_and_a_question(client: openai.OpenAI, server: Live):
    completion = client.chat.completions.create(
        model="gpt-4o", messages=says(film_part(FILM, "video/webm", fps=2), "what happens first")
    )
    assert "a film of 4 frames of 64 x 48 in 2.0 s with sound" in (completion.choices[0].message.content or "")
    film, question = server.engine.requests[-1].messages[-1].parts
    assert isinstance(film, Video)
    assert isinstance(question, Text)
    assert film.times_ms == (0.0, 500.0, 1000.0, 1500.0)


def test_a_film_is_uploaded_and_remembered(client: openai.OpenAI, server: Live):
    kept = client.files.create(file=("a.webm", FILM), purpose="user_data")
    shown: Any = [{"role": "user", "content": [{"type": "input_video", "file_id": kept.id, "fps": 1}]}]
    first = client.responses.create(model="gpt-4o", input=shown)
    assert "a film of 2 frames" in first.output_text
    client.responses.create(model="gpt-4o", input="and then", previous_response_id=first.id)
    assert any(isinstance(part, Video) for part in server.engine.requests[-1].messages[0].parts)


def test_pages_and_animations(client: openai.OpenAI):
    page = {"type": "file", "file": {"filename": "note.pdf", "file_data": b64(said_pdf("the lamp is red"))}}
    moving = image_part(data_url(animation("GIF", [500] * 4), "image/gif"))
    completion = client.chat.completions.create(model="gpt-4o", messages=says(page, moving))
    said = completion.choices[0].message.content or ""
    assert "note.pdf, page 1:\nthe lamp is red" in said
    assert "a film of 8 frames of 8 x 6" in said


@pytest.mark.parametrize(
    ("part", "param", "code"),
    [
        (film_part(FILM[:500]), "messages[0].content[0].video_url", "video_parse_error"),
        (film_part(picture()), "messages[0].content[0].video_url", "invalid_video_format"),
        (image_part(data_url(FILM)), "messages[0].content[0].image_url", "invalid_image_format"),
        ({"type": "file", "file": {"file_data": b64(b"%PDF-1.7")}}, "messages[0].content[0].file", "invalid_value"),
    ],
)
def test_what_is_refused_reaches_the_client(client: openai.OpenAI, part: dict[str, Any], param: str, code: str):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=says(part))
    assert (caught.value.param, caught.value.code) == (param, code)
