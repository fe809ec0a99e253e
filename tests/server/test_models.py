from __future__ import annotations

import pytest

from sensorium.engine.request import EngineInfo
from sensorium.server.speech import manners
from tests.server.live import Live, envelope, live


def test_the_list_has_the_served_model_and_its_aliases(server: Live):
    body = server.http.get("/v1/models").json()
    assert body["object"] == "list"
    names = [model["id"] for model in body["data"]]
    assert names[0] == "sensorium-fake"
    assert {"gpt-4o", "gpt-4o-mini", "gpt-4o-audio-preview", "gpt-realtime", "gpt-image-1"} <= set(names)
    assert len(names) == len(set(names))
    assert body["data"][0] == {"id": "sensorium-fake", "object": "model", "created": 0, "owned_by": "sensorium"}


@pytest.mark.parametrize("name", ["sensorium-fake", "gpt-4o", "gpt-4o-audio-preview-2024-12-17"])
def test_a_model_is_found_by_any_of_its_names(server: Live, name: str):
    assert server.http.get(f"/v1/models/{name}").json()["id"] == name


def test_names_may_hold_colons_and_slashes():
    with live(model_aliases=("ft:gpt-4o:me::abc", "hub/model")) as server:
        for name in ("ft:gpt-4o:me::abc", "hub/model", "hub%2Fmodel"):
            assert server.http.get(f"/v1/models/{name}").json()["id"] == name.replace("%2F", "/")
        response = server.http.get("/v1/models/gpt-4o")
        assert (response.status_code, envelope(response)) == (404, ("model", "model_not_found"))
        assert server.chat(model="hub/model").status_code == 200


def test_a_model_says_what_a_page_may_offer(server: Live):
    told = server.http.get("/v1/models/gpt-4o-mini-tts").json()["sensorium"]
    assert told["voices"][:2] == ["alloy", "echo"]
    assert told["manners"] == ["whisper", "shout", "fast", "slow", "calm"]
    assert told["speakers"] is True


def test_manners_that_were_not_taught_are_not_offered():
    untaught = EngineInfo(model="m", max_tokens=1, sample_rate_hz=16_000, voices=(), skills=frozenset({"say"}))
    assert manners(untaught) == ["fast", "slow"]  # any speech can be played faster or slower
