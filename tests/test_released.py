"""The shipped network, for real: it is asked, spoken to and shown pictures through the official client.

The bounds here only say that the weights, the tokenizers and the code belong together; how well the network does is
measured on many more samples by `make eval` and printed on its card.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from openai import OpenAI
from PIL import Image

from sensorium.data.generators import dialogues, pictures, speech
from tests.serving import ROOT


@pytest.fixture
def client(released_server: str) -> Iterator[OpenAI]:
    url = f"{released_server}/v1"
    with OpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="none", max_retries=0) as client:
        yield client


def ask(client: OpenAI, *parts: Any) -> str:
    reply = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": list(parts)}], seed=1)
    return reply.choices[0].message.content or ""


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def clip(waveform: np.ndarray) -> dict:
    file = io.BytesIO()
    soundfile.write(file, waveform, speech.SAMPLE_RATE_HZ, format="WAV")
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def picture(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def share_right(answers: list[tuple[str, str]]) -> float:
    wrong = [pair for pair in answers if pair[0] != pair[1]]
    for answered, wanted in wrong:
        print(f"{answered!r} for {wanted!r}")  # shown when the test fails
    return 1 - len(wrong) / len(answers)


def test_it_answers_what_is_typed(client: OpenAI) -> None:
    rng = np.random.default_rng(11)
    exchanges = [dialogues.exchange(rng, skill, split="heldout") for skill in dialogues.SKILLS]
    assert share_right([(ask(client, text(asked.question)), asked.answer) for asked in exchanges]) >= 0.5


def test_it_does_what_it_hears(client: OpenAI) -> None:
    rng, synthesizer = np.random.default_rng(12), speech.Synthesizer()
    answers = []
    for skill in ("switch", "timer", "door", "music", "sum", "alarm", "colour", "heating") * 2:
        asked = dialogues.exchange(rng, skill, split="heldout")
        spoken = synthesizer.speak(asked.question, speech.random_speaker(rng, split="train"))
        heard = speech.in_room(spoken, rng, level=0.5).audio.waveform
        answers.append((ask(client, clip(heard)), asked.answer))
    assert share_right(answers) >= 0.5


def test_it_sees(client: OpenAI) -> None:
    """Colours of things and grounds, which these weights know; their card says what they do not."""
    rng = np.random.default_rng(13)
    answers = []
    while len(answers) < 16:
        seen = pictures.scene(rng, split="heldout")
        asked = [question for question in seen.questions if question.question.startswith("what colour")]
        if asked:
            question = asked[int(rng.integers(len(asked)))]
            answers.append((ask(client, picture(seen.pixels), text(question.question)), question.answer))
    assert share_right(answers) >= 0.5


def test_it_speaks_what_it_is_told_to_say(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="gpt-4o",
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "wav"},
        messages=[{"role": "user", "content": "say: turn on the kitchen lights"}],
        seed=1,
    )
    audio = reply.choices[0].message.audio
    assert audio is not None
    assert audio.transcript == "turn on the kitchen lights"
    sound, sample_rate_hz = soundfile.read(io.BytesIO(base64.b64decode(audio.data)))
    assert 0.8 < len(sound) / sample_rate_hz < 4.0
    assert np.sqrt(np.mean(sound**2)) > 0.01


def test_it_draws(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "draw a big red circle"}], seed=1
    )
    images = (reply.choices[0].message.model_extra or {}).get("images") or []
    assert len(images) == 1
    pixels = Image.open(io.BytesIO(base64.b64decode(images[0]["image_url"]["url"].split(",")[1]))).convert("RGB")
    red, green, blue = np.asarray(pixels.resize((64, 64)), dtype=float).transpose(2, 0, 1)
    assert ((red > 120) & (red > 1.6 * green) & (red > 1.6 * blue)).mean() > 0.05


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")  # in the official client
def test_a_call_hears_a_question_and_answers_it_aloud(client: OpenAI) -> None:
    """Over the socket as a client does it: sound as it comes from a microphone, and nobody says when the turn ends."""
    sound, rate_hz = soundfile.read(ROOT / "docs" / "media" / "question.wav", dtype="float32")
    quiet = np.zeros(24_000, np.float32)
    heard = np.concatenate((quiet[:12_000], soxr.resample(sound, rate_hz, 24_000), quiet))
    session: Any = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.session.update(session=session)
        for at in range(0, len(heard), 2400):
            data = (heard[at : at + 2400] * 32767).astype("<i2").tobytes()
            connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
        said, understood, num_bytes, done = "", "", 0, False
        for event in connection:
            assert event.type != "error", event
            match event.type:
                case "conversation.item.input_audio_transcription.completed":
                    understood = event.transcript
                case "response.output_audio_transcript.done":
                    said = event.transcript
                case "response.output_audio.delta":
                    num_bytes += len(base64.b64decode(event.delta))
                case "response.done":
                    done = True
            if done and understood:
                break
    assert "two" in understood
    assert "two plus three is" in said
    assert num_bytes > 0.5 * 48_000
