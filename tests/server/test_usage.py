"""What was used, as the official client reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from sensorium.platform.state import State
from sensorium.platform.usage import PriceList, Record, Used
from tests.server.calls import hum, pcm, phone
from tests.server.live import Live, eventually, live

SPOKEN_AUDIO = {"voice": "alloy", "format": "pcm16"}
DAY_S = 86_400
START = 20_000 * DAY_S


@pytest.fixture(params=["sqlite", "postgres"])
def reports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Live, Any]]:
    """A server on which something was used, at known times, and the client's `usage`."""
    database = request.getfixturevalue("new_postgres")() if request.param == "postgres" else None
    prices = PriceList(models={"gpt-4o*": {"input_tokens": 1.0, "output_tokens": 10.0}, "whisper-1": {"seconds": 0.1}})
    with live(state=tmp_path, database=database, prices=prices) as server, client(server) as admin:
        yield server, admin.admin.organization.usage


def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        admin_api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    )


def write_down(request_state: Path, *records: tuple[int, Record], database: str | None = None) -> None:
    """Before the server is asked: at times of our own."""

    async def write() -> None:
        state = State.open(request_state, database=database)
        for at_s, record in records:
            state.usage.record(record, at_s=at_s)
        await state.aclose()

    asyncio.run(write())


def record(**fields: Any) -> Record:
    used = Used(requests=1, input_text=100, output_text=10)
    return Record(**{"kind": "completions", "project": "p", "api_key": "k", "model": "gpt-4o", "used": used} | fields)


def now_range() -> dict[str, int]:
    return {"start_time": int(time.time()) - 60}


def results(page: Any) -> list[Any]:
    return [result for bucket in page.data for result in bucket.results]


def test_every_answer_is_written_down(reports: tuple[Live, Any]):
    server, usage = reports
    counted = server.chat("one two three").json()["usage"]
    tokens = [counted["prompt_tokens"], counted["completion_tokens"]]
    assert server.chat("one two three", stream=True).status_code == 200
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    assert server.chat("one", model="gpt-4o-audio-preview", **spoken).status_code == 200
    assert server.chat("one", temperature=9).status_code == 400
    found = {result.model: result for result in results(usage.completions(**now_range(), group_by=["model"]))}
    assert set(found) == {"gpt-4o", "gpt-4o-audio-preview"}
    assert found["gpt-4o"].num_model_requests == 2
    assert [found["gpt-4o"].input_tokens, found["gpt-4o"].output_tokens] == [2 * count for count in tokens]
    assert found["gpt-4o-audio-preview"].output_audio_tokens > 0
    assert found["gpt-4o"].project_id is None
    (all_of_it,) = results(usage.completions(**now_range()))
    assert all_of_it.num_model_requests == 3
    (mine,) = results(usage.completions(**now_range(), group_by=["project_id", "api_key_id", "batch", "service_tier"]))
    assert (mine.project_id, mine.api_key_id, mine.batch, mine.service_tier) == ("proj_default", None, False, "default")


def test_answers_of_a_call_are_written_down(reports: tuple[Live, Any]):
    server, usage = reports
    with phone(server) as call:
        call.user("one two three")
        call.say("response.create", response={"output_modalities": ["text"]})
        done = call.until("response.done")[-1]["response"]["usage"]
        call.until("rate_limits.updated")
    (result,) = results(usage.completions(**now_range(), group_by=["model"]))
    assert result.model == "gpt-realtime"
    assert (result.input_tokens, result.output_tokens) == (done["input_tokens"], done["output_tokens"])


def test_what_a_call_has_heard_before_is_told_as_cached_sound(reports: tuple[Live, Any]):
    server, usage = reports
    with phone(server) as call:
        told: list[Any] = []
        for _ in range(2):
            call.say("input_audio_buffer.append", audio=pcm(hum(800)))
            call.say("input_audio_buffer.commit")
            call.say("response.create", response={"output_modalities": ["text"]})
            told.append(call.until("response.done")[-1]["response"]["usage"]["input_token_details"])
        call.until("rate_limits.updated")
    (result,) = results(usage.completions(**now_range()))
    cached = [details["cached_tokens_details"] for details in told]
    for modality in ("text", "audio", "image"):
        known = sum(details[f"{modality}_tokens"] for details in cached)
        assert getattr(result, f"input_cached_{modality}_tokens") == known
        read = sum(details[f"{modality}_tokens"] for details in told)
        assert getattr(result, f"input_{modality}_tokens") == read - known
    assert result.input_cached_audio_tokens > 0
    assert result.input_uncached_tokens == result.input_tokens - result.input_cached_tokens


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("moderations", ["project_id", "user_id", "api_key_id", "model"]),
        ("vector_stores", ["project_id"]),
        ("code_interpreter_sessions", ["project_id"]),
        ("file_search_calls", ["project_id", "user_id", "api_key_id", "vector_store_id"]),
        ("web_search_calls", ["project_id", "user_id", "api_key_id", "model", "context_level"]),
    ],
)
def test_what_there_is_none_of_is_never_used(server: Live, name: str, groups: list[str]):
    with client(server) as admin:
        ask = getattr(admin.admin.organization.usage, name)
        times = {"start_time": START, "end_time": START + 3 * DAY_S, "project_ids": ["proj_default"]}
        page = ask(**times, group_by=groups, limit=2)
        assert page.object == "page"
        assert [(bucket.start_time, bucket.end_time) for bucket in page.data] == [
            (START, START + DAY_S),
            (START + DAY_S, START + 2 * DAY_S),
        ]
        assert results(page) == []
        rest = ask(**times, limit=2, page=page.next_page)
        assert (len(rest.data), rest.has_more, page.has_more) == (1, False, True)
        with pytest.raises(openai.BadRequestError) as caught:
            ask(**times, group_by=["size"])
        assert caught.value.param == "group_by[0]"
    assert server.http.get(f"/v1/organization/usage/{name}").json()["error"]["param"] == "start_time"


@pytest.mark.parametrize("fields", [{}, {"modalities": ["text", "audio"], "audio": SPOKEN_AUDIO}, {"n": 2}])
def test_who_hangs_up_pays_for_what_was_written(fields: dict[str, Any]):
    asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "word " * 500}], **fields}
    with live() as server, client(server) as admin:
        whole = server.chat("word " * 500).json()["usage"]
        server.engine.delay_ms = 20
        with server.http.stream("POST", "/v1/chat/completions", json=asked) as response:
            lines = response.iter_lines()
            for _ in range(20):
                next(lines)
        eventually(lambda: server.engine.num_active == 0)
        usage: Any = admin.admin.organization.usage
        eventually(lambda: results(usage.completions(**now_range()))[0].num_model_requests == 2)
        (result,) = results(usage.completions(**now_range()))
        assert result.input_tokens == whole["prompt_tokens"] * (1 + fields.get("n", 1))
        assert 5 < result.output_tokens - whole["completion_tokens"] < 500


@pytest.mark.parametrize("conversation", ["auto", "none"])
def test_an_answer_of_a_call_that_is_cut_short_is_paid_for(conversation: str):
    with live() as server, client(server) as admin:
        server.engine.delay_ms = 20
        with phone(server) as call:
            call.user("word " * 500)
            call.say("response.create", response={"output_modalities": ["text"], "conversation": conversation})
            created = call.until("response.created")[-1]["response"]
            for _ in range(4):
                call.until("response.output_text.delta")
            call.say("response.cancel", response_id=created["id"])
            told = call.until("response.done")[-1]["response"]["usage"]
            call.until("rate_limits.updated")
        assert told["input_tokens"] >= 500
        assert 4 <= told["output_tokens"] < 500
        usage: Any = admin.admin.organization.usage
        (result,) = results(usage.completions(**now_range()))
        assert (result.input_tokens, result.output_tokens) == (told["input_tokens"], told["output_tokens"])


def test_who_used_it_is_written_down(reports: tuple[Live, Any]):
    server, usage = reports
    with client(server) as admin:
        organization = admin.admin.organization
        lab = organization.projects.create(name="Lab")
        key = organization.projects.service_accounts.create(lab.id, name="robot").api_key
    assert key is not None
    server.http.headers["authorization"] = f"Bearer {key.value}"
    assert server.chat("hi").status_code == 200
    del server.http.headers["authorization"]
    assert server.chat("hi").status_code == 200
    found = results(usage.completions(**now_range(), group_by=["project_id", "api_key_id"]))
    assert {(result.project_id, result.api_key_id) for result in found} == {(lab.id, key.id), ("proj_default", None)}
    (only,) = results(usage.completions(**now_range(), project_ids=[lab.id]))
    assert only.num_model_requests == 1
    (only,) = results(usage.completions(**now_range(), api_key_ids=[key.id, "key_other"]))
    assert only.num_model_requests == 1


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Any]:
    """The client's `usage` on a server that was used at times of our own."""
    write_down(
        tmp_path,
        *((START + day * DAY_S + 60, record()) for day in range(10)),
        (START + 30, record(model="gpt-4o-mini", project="q")),
        (START + 30, record(kind="audio_transcriptions", model="whisper-1", used=Used(requests=1, audio_ms=61_400))),
        (START + 30, record(kind="audio_speeches", model="tts-1", used=Used(requests=1, characters=7))),
        (START + 30, record(kind="images", size="64x64", source="image.edit", used=Used(requests=1, images=2))),
        (START + 30, record(kind="images", size="32x32", source="image.edit", used=Used(requests=1, images=1))),
    )
    prices = PriceList(models={"gpt-4o*": {"input_tokens": 1.0, "output_tokens": 10.0}, "whisper-1": {"seconds": 0.1}})
    with live(state=tmp_path, prices=prices) as server, client(server) as admin:
        yield admin.admin.organization.usage


def test_buckets_and_pages(past: Any):
    first = past.completions(start_time=START, end_time=START + 10 * DAY_S)
    assert first.object == "page"
    assert [bucket.start_time for bucket in first.data] == [START + day * DAY_S for day in range(7)]
    assert all(bucket.end_time - bucket.start_time == DAY_S for bucket in first.data)
    assert first.has_more
    rest = past.completions(start_time=START, end_time=START + 10 * DAY_S, page=first.next_page)
    assert [bucket.start_time for bucket in rest.data] == [START + day * DAY_S for day in range(7, 10)]
    assert (rest.has_more, rest.next_page) == (False, None)
    assert sum(result.num_model_requests for result in results(first) + results(rest)) == 11
    minutes = past.completions(start_time=START + 59, end_time=START + 121, bucket_width="1m")
    assert [len(bucket.results) for bucket in minutes.data] == [1, 1, 0]
    assert len(past.completions(start_time=START, end_time=START + DAY_S, bucket_width="1h").data) == 24
    assert past.completions(start_time=2**40).data == []


def test_other_kinds_of_use(past: Any):
    span = {"start_time": START, "end_time": START + DAY_S}
    (heard,) = results(past.audio_transcriptions(**span))
    assert (heard.seconds, heard.num_model_requests) == (61, 1)
    (said,) = results(past.audio_speeches(**span, models=["tts-1"]))
    assert said.characters == 7
    drawn = results(past.images(**span, group_by=["size", "source"]))
    assert [(result.size, result.source, result.images) for result in drawn] == [
        ("32x32", "image.edit", 1),
        ("64x64", "image.edit", 2),
    ]
    (small,) = results(past.images(**span, sizes=["256x256", "64x64"]))
    assert (small.images, small.size) == (2, None)


def test_costs(past: Any):
    span = {"start_time": START, "end_time": START + DAY_S}
    (total,) = results(past.costs(**span))
    assert total.amount.value == pytest.approx(2 * (100 + 10 * 10) / 1e6 + 6.14)
    assert (total.amount.currency, total.line_item, total.quantity) == ("usd", None, None)
    by_item = {result.line_item: result for result in results(past.costs(**span, group_by=["line_item"]))}
    assert by_item["whisper-1, seconds"].quantity == pytest.approx(61.4)
    assert by_item["whisper-1, seconds"].quantity_unit == "duration_seconds"
    assert by_item["gpt-4o, output_tokens"].amount.value == pytest.approx(10 * 10 / 1e6)
    assert by_item["tts-1, characters"].amount.value == 0
    assert past.costs(start_time=START, end_time=START + 9 * DAY_S, limit=180).has_more is False
    (one,) = results(past.costs(**span, line_items=["gpt-4o, input_tokens"], group_by=["project_id"]))
    assert (one.project_id, one.amount.value) == ("p", pytest.approx(100 / 1e6))


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (lambda usage: usage.completions(start_time=-1), "start_time"),
        (lambda usage: usage.completions(start_time=5, end_time=5), "end_time"),
        (lambda usage: usage.completions(start_time=0, bucket_width="2d"), "bucket_width"),
        (lambda usage: usage.completions(start_time=0, limit=32), "limit"),
        (lambda usage: usage.completions(start_time=0, limit=0), "limit"),
        (lambda usage: usage.completions(start_time=0, group_by=["size"]), "group_by[0]"),
        (lambda usage: usage.completions(start_time=0, user_ids=["u"]), "user_ids"),
        (lambda usage: usage.completions(start_time=0, page="next"), "page"),
        (lambda usage: usage.completions(start_time=0, page="page_61"), "page"),
        (lambda usage: usage.completions(start_time=0, page="page_\u0661"), "page"),
        (lambda usage: usage.completions(start_time=0, extra_query={"colour": "red"}), "colour"),
        (lambda usage: usage.images(start_time=0, group_by=["batch"]), "group_by[0]"),
        (lambda usage: usage.costs(start_time=0, bucket_width="1h"), "bucket_width"),
        (lambda usage: usage.costs(start_time=0, limit=181), "limit"),
    ],
)
def test_what_makes_no_sense_is_named(ask: Callable, param: str, server: Live):
    with client(server) as admin, pytest.raises(openai.BadRequestError) as caught:
        ask(admin.admin.organization.usage)
    assert caught.value.param == param


def test_a_start_is_needed(server: Live):
    response = server.http.get("/v1/organization/usage/completions")
    assert response.json()["error"]["code"] == "missing_required_parameter"
    assert response.json()["error"]["param"] == "start_time"
