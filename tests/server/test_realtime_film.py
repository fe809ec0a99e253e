"""A camera in a call: its frames come in a turn, each with its time, and are seen as a film."""

from __future__ import annotations

from typing import Any

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image, Text, Video
from tests.server.calls import PUSH_TO_TALK, phone
from tests.server.live import Live, live
from tests.server.samples import data_url, picture


def frame(time_ms: float | None, **fields: Any) -> dict[str, Any]:
    timed = {} if time_ms is None else {"time_ms": time_ms}
    return {"type": "input_image", "image_url": data_url(picture("JPEG")), **timed, **fields}


def item(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(content)}


def test_frames_in_a_row_are_a_film(server: Live):
    question = {"type": "input_text", "text": "what do i hold"}
    content = [frame(12_000), frame(12_500), frame(14_000), question, frame(None), frame(15_000)]
    with phone(server, session=PUSH_TO_TALK) as call:
        added = call.ask("conversation.item.create", "conversation.item.added", item=item(*content))
        shown = added["item"]["content"]
        assert [part.get("time_ms") for part in shown] == [12_000, 12_500, 14_000, None, None, 15_000]
        call.next()
        call.say("response.create", response={"output_modalities": ["text"]})
        done = call.until("response.done")[-1]["response"]
    assert done["usage"]["input_token_details"]["image_tokens"] == 3 * 16 + 64 + 16
    film, text, still, other = server.engine.requests[-1].messages[-1].parts
    assert isinstance(film, Video)
    assert film.times_ms == (0.0, 500.0, 2000.0)
    assert isinstance(text, Text)
    assert isinstance(still, Image)
    assert isinstance(other, Video)


def test_a_film_of_a_camera_may_have_as_many_frames_as_any():
    shot = {**frame(None), "image_url": data_url(picture("JPEG", (1280, 720)), "image/jpeg")}
    content = [{**shot, "time_ms": 250 * number} for number in range(64)]
    with live(FakeEngine(max_tokens=10_000)) as server, phone(server, session=PUSH_TO_TALK) as call:
        call.ask("conversation.item.create", "conversation.item.added", item=item(*content))
        call.next()
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    [film] = server.engine.requests[-1].messages[-1].parts
    assert isinstance(film, Video)
    assert {seen.pixels.shape for seen in film.frames} == {(144, 256, 3)}


def test_what_is_no_film_is_refused():
    with live(max_film_frames=3) as server, phone(server, session=PUSH_TO_TALK) as call:

        def refused(*content: dict[str, Any]) -> tuple[str | None, str | None]:
            return call.refused("conversation.item.create", item=item(*content))

        assert refused(frame(1000), frame(500)) == ("item.content[1].time_ms", "invalid_value")
        assert refused(frame(-1)) == ("item.content[0].time_ms", "decimal_below_min_value")
        assert refused(frame(0, detail="high")) == ("item.content[0].detail", "unsupported_value")
        assert refused(*[frame(0)] * 4) == ("item.content[3].image_url", "array_above_max_length")
        broken = frame(0) | {"image_url": data_url(b"nonsense")}
        assert refused(broken) == ("item.content[0].image_url", "invalid_image_format")
