"""The page that draws, in a real browser: the raster as it grows, the gallery, the mask brush, the shown programs."""

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from playwright.sync_api import Page, expect

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image
from tests.browser.conftest import CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

BLUE = (20, 40, 200)


@pytest.fixture
def draw(page: Page) -> Iterator[Page]:
    page.goto("/draw.html")
    expect(page.locator("#model option").first).to_be_attached()
    yield page
    page.keyboard.press("Escape")


def blue_file(width: int, height: int) -> bytes:
    file = io.BytesIO()
    PILImage.new("RGB", (width, height), BLUE).save(file, "PNG")
    return file.getvalue()


def order(page: Page, text: str, size: str = "64x64") -> None:
    page.locator("#prompt").fill(text)
    page.locator("#size").select_option(size)
    page.locator("#prompt").press("Enter")


def open_blue(page: Page, width: int = 64, height: int = 48) -> None:
    page.set_input_files("#file", {"name": "blue.png", "mimeType": "image/png", "buffer": blue_file(width, height)})
    expect(page.locator("#editor")).to_be_visible()
    expect(page.locator("#edit-prompt")).to_be_focused()


def watch_forms(page: Page) -> None:
    """Keeps the fields of every form that is sent, a file by its name: Chromium does not tell a form's body."""
    page.evaluate("""() => {
        const send = window.fetch;
        window.forms = [];
        window.fetch = (path, init) => {
            const fields = init?.body instanceof FormData ? [...init.body] : [];
            const said = fields.map(([name, value]) => [name, value.name ?? value]);
            if (said.length) window.forms.push(Object.fromEntries(said));
            return send(path, init);
        };
    }""")


def sent_form(page: Page) -> dict[str, str]:
    return page.evaluate("window.forms.at(-1)")


def saved(page: Page) -> tuple[bytes, np.ndarray]:
    """The newest picture of the gallery as it is saved: the file and its pixels."""
    with page.expect_download() as download:
        page.locator("#gallery > li").first.get_by_role("button", name=re.compile("^Save")).dispatch_event("click")
    data = download.value.path().read_bytes()
    with PILImage.open(io.BytesIO(data)) as file:
        return data, np.asarray(file.convert("RGB"))


def run_shown(page: Page) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(page.locator("#code-text").inner_text(), "shown.py", "exec"), {"__name__": "shown"})
    return printed.getvalue()


def test_pictures_grow_and_say_what_made_them(draw: Page, engine: FakeEngine) -> None:
    engine.delay_ms = 250.0
    draw.locator("#count").select_option("2")
    draw.locator("#quality").select_option("low")
    order(draw, "A big red square.", "256x256")
    cards = draw.locator("#gallery > li")
    expect(cards).to_have_count(2)
    growing = cards.first.locator("img")
    expect(growing).to_be_visible()
    early = growing.get_attribute("src")
    assert cards.first.locator("figure").get_attribute("aria-busy") == "true"
    for card in cards.all():
        expect(card.locator("figure")).to_have_attribute("aria-busy", "false")
        expect(card.locator("ul")).to_contain_text("drawn at 64x64, shown at 256x256")
        expect(card.locator("ul")).to_contain_text("without guidance")
        expect(card.locator("ul")).to_contain_text("signed: the file says what made it")
    assert growing.get_attribute("src") != early
    expect(draw.locator("#status")).to_contain_text("is complete")
    asked = engine.requests[-1]
    assert asked.messages[-1].text == "draw a big red square"
    assert (asked.params.partial_images, asked.params.guidance_scale) == (3, 1.0)
    data, pixels = saved(draw)
    assert pixels.shape == (256, 256, 3)
    assert b"caBX" in data[:200]  # the chunk of a content credential
    cards.first.get_by_role("button", name="Take “A big red square.” off the page").click()
    expect(cards).to_have_count(1)


def test_what_is_refused_is_said_beside_its_field(draw: Page, engine: FakeEngine) -> None:
    draw.locator("#prompt").press("Enter")
    prompt = draw.locator("#prompt")
    expect(prompt).to_have_attribute("aria-invalid", "true")
    expect(prompt).to_be_focused()
    expect(draw.locator("#prompt-wrong")).to_contain_text("prompt")
    expect(draw.locator("#gallery > li")).to_have_count(0)
    order(draw, "a circle")
    expect(draw.locator("#gallery figure")).to_have_attribute("aria-busy", "false")
    expect(draw.locator("#prompt-wrong")).to_have_count(0)
    engine.error, engine.error_after = RuntimeError("a secret of the engine"), 2
    order(draw, "a square")
    expect(draw.locator("#gallery .notice").first).to_be_visible()
    expect(draw.locator("body")).not_to_contain_text("secret")


def test_what_was_not_painted_stays(draw: Page, engine: FakeEngine) -> None:
    open_blue(draw)
    mask = draw.locator("#mask")
    box = mask.bounding_box()
    assert box is not None
    assert abs(box["width"] / box["height"] - 64 / 48) < 0.02
    draw.locator("#brush-size").fill("10")
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    draw.mouse.move(x + 0.1 * width, y + 0.2 * height)
    draw.mouse.down()
    draw.mouse.move(x + 0.4 * width, y + 0.2 * height, steps=5)
    draw.mouse.up()
    mask.focus()
    draw.keyboard.press("Space")  # the brush is where the pointer left it
    draw.keyboard.press("Shift+ArrowDown")
    draw.keyboard.press("Space")
    draw.keyboard.press("Control+z")  # of the last dab
    draw.locator("#edit-prompt").fill("add a circle")
    watch_forms(draw)
    draw.locator("#edit-prompt").press("Enter")
    expect(draw.locator("#compare")).to_be_visible()
    assert sent_form(draw)["mask"] == "mask.png"
    assert "input_fidelity" not in sent_form(draw)
    assert engine.requests[-1].messages[-1].text == "add a circle"
    _, pixels = saved(draw)
    changed = (pixels != np.array(BLUE)).any(axis=-1)
    assert pixels.shape == (48, 64, 3)
    assert changed[7:12, 6:26].all()  # the stroke
    assert not changed[18:].any()  # what lay beneath the dab that was taken back, and all else
    assert not changed[:, 34:].any()

    share = "getComputedStyle(document.querySelector('#after')).clipPath"
    assert "50%" in draw.evaluate(share)
    draw.locator("#compare").press("ArrowRight")
    assert "51%" in draw.evaluate(share)
    draw.locator("#edit-on").click()
    expect(mask).to_be_visible()
    assert draw.locator("#before").evaluate("img => img.naturalWidth") == 64
    draw.locator("#edit-close").click()
    expect(draw.locator("#editor")).to_be_hidden()


def test_a_whole_picture_is_changed_and_refusals_stay_in_the_editor(draw: Page, engine: FakeEngine) -> None:
    order(draw, "a square")
    draw.get_by_role("button", name="Change this").click()
    draw.locator("#edit-prompt").press("Enter")
    expect(draw.locator("#edit-prompt-wrong")).to_be_visible()
    draw.locator("#edit-prompt").fill("make it green")
    watch_forms(draw)
    draw.locator("#edit-go").click()
    expect(draw.locator("#compare")).to_be_visible()
    assert "mask" not in sent_form(draw)
    assert sent_form(draw)["input_fidelity"] == "high"
    expect(draw.locator("#edit-prompt-wrong")).to_have_count(0)
    assert any(isinstance(part, Image) for part in engine.requests[-1].messages[-1].parts)
    expect(draw.locator("#gallery > li")).to_have_count(2)


def test_the_shown_programs_run(draw: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(blue_file(64, 64))
    draw.locator("#prompt").fill('a "quoted" \\ circle')
    draw.locator("#show-code").click()
    assert run_shown(draw).splitlines()[-1] == "image_generation.completed"
    with PILImage.open("drawn.png") as file:
        assert file.size == (512, 512)
    draw.keyboard.press("Escape")
    draw.locator("#count").select_option("2")
    draw.locator("#show-code").click()
    run_shown(draw)
    assert Path("drawn2.png").stat().st_size > 0
    draw.keyboard.press("Escape")

    open_blue(draw)
    draw.locator("#edit-prompt").fill("it's @ $HOME")
    draw.locator("#edit-code").click()
    assert run_shown(draw).splitlines()[-1] == "image_edit.completed"
    draw.get_by_text("curl", exact=True).click()
    if shutil.which("curl"):
        shown = draw.locator("#code-text").inner_text()
        answer = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True).stdout
        assert "image_edit.completed" in answer
    draw.get_by_text("JavaScript", exact=True).click()
    expect(draw.locator("#code-text")).to_contain_text("client.images.edit({")


@pytest.mark.parametrize("name", ["draw", "listen"])
def test_every_control_of_a_page_has_a_name_and_it_fits_a_phone(page: Page, name: str) -> None:
    page.goto(f"/{name}.html")
    expect(page.locator("#model option").first).to_be_attached()
    controls = "button, input, select, textarea, canvas[tabindex]"
    nameless = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)].filter((control) =>
        !control.ariaLabel && !control.labels?.length && !control.textContent.trim()
    ).map((control) => control.outerHTML)""",
        controls,
    )
    assert nameless == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#main").evaluate("main => main.scrollWidth - main.clientWidth") <= 0
    page.set_viewport_size({"width": 1280, "height": 720})
