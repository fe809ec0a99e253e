"""The benchmarks run and fill their tables; what they find is not judged here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bench import decode, images, latency, structured, voice
from bench.untrained import untrained


def test_decode_fills_its_table(capsys):
    release = untrained("nano")
    result = decode.measure(release, num_tokens=2, rounds=1)
    assert {"engine", "module", "frame"} <= result["wall_ms"].keys() == result["cpu_ms"].keys()
    assert all(cost > 0 for cost in result["wall_ms"].values())
    decode.print_table(result)
    assert "engine, spoken frame" in capsys.readouterr().out


def test_latency_fills_its_table(fake_server: str):
    rows = latency.measure(fake_server.removeprefix("http://"), num_requests=1)
    assert rows.keys() == {
        f"{asked} -> {form}" for asked in ("typed", "spoken", "picture") for form in ("text", "speech")
    }
    for label, row in rows.items():
        assert row["ttft_ms_p50"] > 0
        assert ("ttfa_ms_p50" in row) is label.endswith("speech")


def test_images_fill_their_table(fake_server: str):
    rows = images.measure(fake_server.removeprefix("http://"), num_requests=1)
    assert rows.keys() == {"64x64 medium", "64x64 low", "1024x1024 medium"}
    assert all(0 < row["first_ms_p50"] < row["whole_ms_p50"] for row in rows.values())


def test_a_long_call_is_compared_with_its_beginning(fake_server: str):
    address = fake_server.removeprefix("http://")
    told = asyncio.run(voice.long_call(address, minutes=3, detection="push_to_talk", pace=0.05))
    assert told["whole"]["turns"] > 3
    assert told["whole"]["missed"] == 0
    assert told["first"]["answer_ms_p50"] > 0
    assert all(mib > 50 for mib in told["memory_mib"])


@pytest.mark.parametrize("detection", voice.DETECTIONS)
def test_voice_fills_its_table(fake_server: str, detection: str, tmp_path: Path):
    address = fake_server.removeprefix("http://")
    seen = asyncio.run(voice.measure(address, calls=2, turns=3, detection=detection, pace=0.05))
    figures = seen.figures()
    assert figures["turns"] == 6
    assert figures["missed"] == 0
    assert figures["answer_ms_p50"] > 0
    voice.plot({detection: {"2": figures}}, tmp_path / "voice.png")
    assert (tmp_path / "voice.png").stat().st_size > 1000


def test_a_structured_run_goes_on_where_it_stopped(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = tmp_path / "results.jsonl"
    for count in (2, 4):
        command = ["structured", "--schemas", str(count), "--results", str(results), "--tokens", "40"]
        monkeypatch.setattr("sys.argv", command)
        structured.main()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["schema"] for line in lines] == [0, 1, 2, 3]
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["bench"], told["schemas"], told["outcomes"]["invalid"]) == ("structured", 4, 0)
