"""The Images API through the official client, which checks every answer and event against its own types."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx2
import numpy as np
import openai
import PIL.Image
import pytest

from sensorium.evals import judges
from sensorium.evals.judges import IconJudge
from sensorium.messages import Image
from sensorium.safety.provenance import read_credential
from tests.server.samples import picture
from tests.serving import ROOT

SCENE = ROOT / "docs" / "media" / "scene.png"


def pixels_of(encoded: str | None) -> np.ndarray:
    assert encoded
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


def test_generations(client: openai.OpenAI):
    reply = client.images.generate(model="gpt-image-1", prompt="a square", n=2, size="1536x1024", quality="low")
    assert reply.data
    assert [pixels_of(image.b64_json).shape for image in reply.data] == [(1024, 1536, 3)] * 2
    assert (reply.size, reply.quality, reply.background, reply.output_format) == ("1536x1024", "low", "opaque", "png")
    assert reply.usage
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens


def test_a_stream(client: openai.OpenAI):
    stream = client.images.generate(model="gpt-image-1", prompt="a square", stream=True, partial_images=3)
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert all(pixels_of(event.b64_json).shape == (1024, 1024, 3) for event in events)


def test_urls(client: openai.OpenAI):
    reply = client.images.generate(model="dall-e-3", prompt="a square", quality="hd", response_format="url")
    assert reply.data
    assert httpx2.get(str(reply.data[0].url)).status_code == 200


@pytest.mark.parametrize("several", [False, True])
def test_edits(client: openai.OpenAI, several: bool):
    mask = picture(mode="RGBA", size=(64, 64), color=(0, 0, 0, 0))
    image = picture(size=(64, 64))
    files = [("a.png", image), ("b.png", image)]
    reply = client.images.edit(
        model="gpt-image-1",
        image=files if several else io.BytesIO(image),
        mask=("mask.png", mask),
        prompt="make it red",
        input_fidelity="high",
    )
    assert reply.data
    assert pixels_of(reply.data[0].b64_json).shape == (64, 64, 3)
    events = list(client.images.edit(image=files, prompt="make it red", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # says the client of the method
def test_variations(client: openai.OpenAI):
    reply = client.images.create_variation(image=io.BytesIO(picture()), n=2, size="256x256", response_format="b64_json")
    assert reply.data
    assert [pixels_of(image.b64_json).shape for image in reply.data] == [(256, 256, 3)] * 2


def test_refusals_are_the_clients_own_errors(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="gpt-image-1", prompt="a square", size="1000x1000")
    assert (caught.value.param, caught.value.code) == ("size", "unsupported_value")
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="another", prompt="a square")


@pytest.fixture
def released(released_server: str) -> Iterator[openai.OpenAI]:
    """The shipped weights."""
    with openai.OpenAI(base_url=f"{released_server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.slow
def test_the_shipped_weights_draw_what_is_asked_for(released: openai.OpenAI):
    # seeds are drawn by chance: most of nine are as asked
    reply = released.images.generate(prompt="A big red square.", model="gpt-image-1", size="512x512", n=9)
    assert reply.data
    data = base64.b64decode(reply.data[0].b64_json or "")
    shown = np.median([pixels_of(image.b64_json) for image in reply.data], axis=0)
    red, _, blue = shown[256 - 32 : 256 + 32, 256 - 32 : 256 + 32].reshape(-1, 3).mean(axis=0)
    assert red > blue + 60
    judge, _ = judges.load(IconJudge, judges.SHIPPED / "icon")
    reply = released.images.generate(prompt="A guitar emoji.", model="gpt-image-1", size="512x512", n=9)
    named = [judge.name(Image(pixels=pixels_of(image.b64_json))) for image in reply.data or ()]
    assert named.count("guitar emoji") >= 5
    assert read_credential(data, "image/png").model == "sensorium-tiny"


@pytest.mark.slow
def test_the_shipped_weights_keep_what_a_mask_keeps(released: openai.OpenAI):
    original = np.asarray(PIL.Image.open(SCENE).convert("RGB"))
    height, width, _ = original.shape
    mask = np.full((height, width, 4), 255, np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 0
    file = io.BytesIO()
    PIL.Image.fromarray(mask).save(file, "PNG")
    reply = released.images.edit(image=SCENE, mask=("mask.png", file.getvalue()), prompt="make it blue")
    assert reply.data
    shown = pixels_of(reply.data[0].b64_json)
    assert (shown[mask[:, :, 3] > 0] == original[mask[:, :, 3] > 0]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_the_shipped_weights_vary_a_picture(released: openai.OpenAI):
    reply = released.images.create_variation(image=SCENE, n=2, response_format="b64_json", size="256x256")
    assert reply.data
    assert (reply.data[0].revised_prompt or "").startswith("draw a")
    first, second = (pixels_of(image.b64_json) for image in reply.data)
    assert (first != second).any()
