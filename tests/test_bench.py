"""The benchmarks run and fill their tables; what they find is not judged here."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import decode, images, latency, structured, turns, voice, watermark
from bench.json_line import json_line
from bench.untrained import untrained
from sensorium.data.generators.dialogues import sentence
from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio
from sensorium.server.realtime_thread import Thread

LLAMA_CPP = {f"llama.cpp {name}" for name in decode.LLAMA_CPP_TYPES}


def test_decode_fills_its_table(capsys):
    """Peers that are not installed are left out, and a line says so."""
    release = untrained("nano")
    result = decode.measure(release, num_tokens=2, rounds=1)
    peers = result["peer_parameters"].keys()
    assert (
        result["wall_ms"].keys() == result["cpu_ms"].keys() == {"engine", "engine as given", "module", "frame"} | peers
    )
    assert result["wall_ratio"].keys() == result["cpu_ratio"].keys() == peers
    assert all(cost > 0 for cost in result["wall_ms"].values())
    decode.print_table(result)
    out = capsys.readouterr().out
    assert "spoken frame" in out
    for name, row in (("llama.cpp", LLAMA_CPP), ("transformers", {"transformers"})):
        assert row <= peers or f"{name} is left out" in out


def test_llama_cpp_is_as_large_as_the_peer_of_transformers():
    pytest.importorskip("llama_cpp")
    pytest.importorskip("transformers")
    shape = untrained("nano").config.model
    with decode.llama_cpp_peers(shape, sys.executable, 1) as peers:
        assert peers.keys() == LLAMA_CPP
        assert {peer.parameters for peer in peers.values()} == {decode.transformers_peer(shape).parameters}
        assert all(peer.cost(3).cpu_ms > 0 for peer in peers.values())


def test_an_interpreter_that_lacks_llama_cpp_is_told(capsys, tmp_path: Path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named llama_cpp' >&2\nexit 1\n")
    broken.chmod(0o755)
    with decode.llama_cpp_peers(untrained("nano").config.model, str(broken), 1) as peers:
        assert peers == {}
    assert "llama.cpp is left out (no module named llama_cpp)" in capsys.readouterr().out


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
    # twice as fast as it is said, as fast as a server takes in what is more than a little
    told = asyncio.run(voice.long_call(address, minutes=0.6, detection="push_to_talk", pace=0.5))
    assert told["whole"]["turns"] > 3
    assert told["whole"]["missed_turns"] == 0
    assert told["first"]["answer_ms_p50"] > 0
    assert all(mib > 50 for mib in told["memory_mib"])


@pytest.mark.parametrize("detection", voice.DETECTIONS)
def test_voice_fills_its_table(fake_server: str, detection: str, tmp_path: Path):
    address = fake_server.removeprefix("http://")
    seen = asyncio.run(voice.measure(address, calls=2, turns=3, detection=detection, pace=0.05))
    figures = seen.figures()
    assert figures["turns"] == 6
    assert figures["missed_turns"] == 0
    assert 0 < figures["answer_ms_p50"] <= figures["answer_ms_p95"] <= figures["answer_ms_p99"]
    voice.plot({detection: {"2": figures}}, tmp_path / "voice.png")
    assert (tmp_path / "voice.png").stat().st_size > 1000


def test_voice_tells_all_it_found_in_a_table_and_one_line(
    fake_server: str, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    @contextmanager
    def served(checkpoint: Path, *, threads: int) -> Iterator[str]:
        yield fake_server.removeprefix("http://")

    monkeypatch.setattr(voice, "serving", served)
    picture = str(tmp_path / "voice.png")
    options = ["--turns", "1", "--detection", "server_vad", "push_to_talk", "--pace", "0.05", "--plot", picture]
    monkeypatch.setattr("sys.argv", ["voice", *options])
    assert voice.parsed().calls == [1, 2, 4, 8]
    monkeypatch.setattr("sys.argv", ["voice", *options, "--calls", "1", "2"])
    voice.main()
    lines = capsys.readouterr().out.splitlines()
    told = json.loads(lines[-1])
    assert told["results"].keys() == {"server_vad", "push_to_talk"}
    assert all(list(rows) == ["1", "2"] for rows in told["results"].values())
    named = {f"{delay}_p{share}" for delay in ("answer_ms", "stop_ms") for share in (50, 95, 99)}
    assert {*named, "false_cut_ins", "missed_turns", "underruns", "turns"} == set(lines[-6].split())
    assert Path(picture).stat().st_size > 1000


def test_voice_counts_what_went_wrong():
    seen = voice.Turns(answer_ms=[100.0, 200.0], stop_ms=[5.0], total=4, heard_out=2)
    seen.add(voice.Turns(false_cut_ins=1, missed_turns=2, underruns=1, total=4, heard_out=2))
    figures = seen.figures()
    assert (figures["turns"], figures["interruptions"]) == (8, 1)
    assert (figures["false_cut_ins"], figures["missed_turns"], figures["underruns"]) == (1 / 8, 2 / 8, 1 / 4)
    assert figures["stop_ms_p99"] == 5.0


def recordings(folder: Path, marks: object) -> Path:
    (folder / "marks.json").write_text(json.dumps(marks))
    question = voice.questions(0, 1)[0].waveform
    quiet = np.zeros((voice.RATE_HZ, 2))
    soundfile.write(
        folder / "asked.wav", np.concatenate((np.stack((question, question), axis=1), quiet)), voice.RATE_HZ
    )
    return folder


def test_voice_asks_with_recordings(fake_server: str, tmp_path: Path):
    """The delay runs from the mark, also where the recording goes on behind it."""
    length_ms = 1000 * len(voice.questions(0, 1)[0].waveform) / voice.RATE_HZ
    own = voice.own_questions(recordings(tmp_path, {"asked.wav": length_ms}))
    assert [len(asked.waveform) - asked.num_spoken for asked in own] == [voice.RATE_HZ]
    address = fake_server.removeprefix("http://")
    figures = asyncio.run(
        voice.measure(address, calls=1, turns=2, detection="server_vad", pace=0.05, own=own)
    ).figures()
    assert (figures["turns"], figures["missed_turns"], figures["false_cut_ins"]) == (2, 0, 0)


@pytest.mark.parametrize("marks", [{}, {"asked.wav": 10**6}, {"asked.wav": "1"}, {"asked.wav": True}, [3]])
def test_a_recording_without_its_mark_is_named(tmp_path: Path, marks: object):
    with pytest.raises(ValueError, match=r"asked\.wav needs a mark"):
        voice.own_questions(recordings(tmp_path, marks))


def test_a_folder_that_cannot_be_asked_with_is_told(tmp_path: Path):
    with pytest.raises(ValueError, match=r"marks\.json must say"):
        voice.own_questions(tmp_path)
    (tmp_path / "marks.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no \.wav files"):
        voice.own_questions(tmp_path)
    (tmp_path / "asked.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"asked\.wav can't be read"):
        voice.own_questions(tmp_path)


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


def test_a_figure_that_there_is_not_is_null():
    trace = turns.Trace(has_pauses=True, end_ms=100.0, at_ms=[20], silence_ms=[0], probabilities=[[0.1]])
    never = {name: turns.figures(traces, lambda *_: False) for name, traces in (("one", [trace]), ("none", []))}
    told = json.loads(json_line({"rows": [never]}), parse_constant=pytest.fail)["rows"][0]
    assert told["one"] == {"cut": 0.0, "missed": 1.0, "cut_stderr": 0.0, "p50_ms": None, "p95_ms": None}
    assert set(told["none"].values()) == {None}
    assert json_line({"a": [float("inf"), 1, "x", True]}) == '{"a": [null, 1, "x", true]}'


def test_the_share_of_turns_that_are_cut_has_a_standard_error():
    at_ms = [turns.STEP_MS * step for step in range(1, 40)]
    silent = [0] * len(at_ms)
    traces = [
        turns.Trace(has_pauses=True, end_ms=400.0, at_ms=at_ms, silence_ms=silent, probabilities=[[share]] * len(at_ms))
        for share in (0.9, 0.1, 0.1, 0.1)
    ]
    told = turns.figures(traces, lambda _, thought: thought[-1] > 0.5 or len(thought) > 25)
    assert (told["cut"], told["missed"], told["p50_ms"]) == (0.25, 0.0, 120.0)
    assert told["cut_stderr"] == pytest.approx((0.25 * 0.75 / 4) ** 0.5, abs=1e-4)


async def test_a_turn_is_heard_behind_those_before_it_in_its_call():
    engine = FakeEngine()
    rng = np.random.default_rng(0)
    thread, said = Thread(engine), Synthesizer().speak(sentence(rng, "heldout"), PRESETS["coral"]).audio
    for _ in range(2):
        trace = await turns.listen(thread, said, line=0.0, rng=rng)
        assert trace.end_ms == turns.LEAD_MS + said.duration_ms
        assert await turns.answer(thread, aloud=True)
    assert [len(request.messages) for request in engine.requests] == [1, 3]


def test_words_are_counted_by_where_in_its_call_a_turn_is():
    quiet = {"has_pauses": False, "end_ms": 0.0, "at_ms": [], "silence_ms": [], "probabilities": []}
    wrong = [0.0, 1.0, 2.0, 4.0]
    traces = [turns.Trace(**quiet, number=at, num_words=4, num_word_errors=each) for at, each in enumerate(wrong)]
    assert turns.word_errors(traces, call=4) == {"earlier": 0.125, "later": 0.75}
    assert turns.word_errors(traces[:1], call=1) == {"earlier": 0.0}


async def test_every_sentence_is_heard_on_one_line(monkeypatch: pytest.MonkeyPatch):
    """As many as there are turns for all lines, with and without pauses on each."""
    heard: list[tuple[str, bool, float]] = []

    async def listen(_: object, sentence: Audio, *, line: float, rng: object) -> turns.Trace:
        heard.append((sentence.transcript or "", bool(len(heard) % 2), line))
        return turns.Trace(has_pauses=False, end_ms=0.0, at_ms=[], silence_ms=[], probabilities=[])

    monkeypatch.setattr(turns, "listen", listen)
    traces = await turns.collect(turns.SHIPPED, turns=4, lines=[0.0, 1e-3], call=4, seed=5)
    assert [trace.number for trace in traces] == [0, 1, 2, 3] * 2
    assert [trace.has_pauses for trace in traces] == [has_pauses for _, has_pauses, _ in heard] == [False, True] * 4
    assert {(has_pauses, line) for _, has_pauses, line in heard} == {(a, b) for a in (True, False) for b in (0.0, 1e-3)}
    assert len({words for words, _, _ in heard}) > 6


def test_every_attack_on_a_mark_is_rated():
    rng, speech = np.random.default_rng(0), Synthesizer()
    voices = {
        name: [speech.speak(sentence(rng, "heldout"), PRESETS[name]).audio.waveform for _ in range(3)]
        for name in ("coral", "echo")
    }
    figures = watermark.outlived(voices, num_clips=1, length_s=12)
    assert figures.keys() == watermark.ATTACKS.keys()
    assert figures["nothing"]["missed"] == figures["nothing"]["payload wrong"] == 0
    assert figures["nothing"]["bits wrong"] < 0.1
    assert figures["10 % faster, as a tape"]["missed"] == 1
    rates = watermark.unmarked(voices, num_looks=2, length_s=4)
    assert all(rate["found"] == 0 < rate["mean score"] < rate["highest score"] for rate in rates.values())
    assert len(rates) == 5


def test_the_published_page_is_that_of_the_figures():
    figures = json.loads(Path("docs/watermark.json").read_text())
    assert watermark.page(figures) == Path("docs/watermark.md").read_text()
    assert figures["marked"]["4 s"].keys() == watermark.ATTACKS.keys()
    assert figures["clips"]["4 s"] >= 200
