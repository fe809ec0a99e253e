"""What a picture says of itself must be true of its pixels, and held-out pictures must stay out of training."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from sensorium.data.generators import canvas, edits, emoji, figures, glyphs, icons, pictures, scenes

FIGURES = (figures.clock, figures.bar_chart, figures.form)
LABELLED = (pictures.scene, pictures.word_picture, pictures.icon_picture, pictures.digit_picture)
GENERATORS = (*LABELLED, pictures.emoji_picture, *FIGURES)


def drawn(generator, seed: int, split: canvas.Split = "train", size: int = 64) -> np.ndarray:
    picture = generator(np.random.default_rng(seed), split=split, size=size)
    return picture.pixels


@pytest.fixture(scope="module")
def some_scenes() -> list[pictures.Scene]:
    rng = np.random.default_rng(7)
    return [pictures.scene(rng, split="train") for _ in range(400)]


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
def test_seed_decides_every_byte(generator) -> None:
    assert np.array_equal(drawn(generator, 3), drawn(generator, 3))
    assert not np.array_equal(drawn(generator, 3), drawn(generator, 4))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
@pytest.mark.parametrize("size", [64, 128])
def test_size_and_something_to_see(generator, size: int) -> None:
    for seed in range(20):
        pixels = drawn(generator, seed, size=size)
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8
        assert pixels.reshape(-1, 3).astype(int).std(axis=0).max() > 4


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
def test_unknown_split_is_refused(generator) -> None:
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        generator(np.random.default_rng(0), split="valid")


def test_held_out_scenes_never_train(some_scenes: list[pictures.Scene]) -> None:
    rng = np.random.default_rng(8)
    held_out = {
        (scene.caption, scene.background) for scene in (pictures.scene(rng, split="heldout") for _ in range(200))
    }
    assert held_out.isdisjoint((scene.caption, scene.background) for scene in some_scenes)
    assert len(held_out) > 100


def test_scenes_show_their_objects(some_scenes: list[pictures.Scene]) -> None:
    for scene in some_scenes:
        for item in scene.objects:
            # The hole of a ring is ground; its body is not.
            x = item.x + (0.72 * item.radius if item.shape == "ring" else 0.0)
            colour = scene.pixels[int(item.y * 64), int(x * 64)].astype(int)
            nearest = min(scenes.COLOURS, key=lambda name: np.abs(colour - scenes.COLOURS[name]).sum())
            assert nearest == item.colour, scene.caption


def test_scenes_keep_objects_apart_and_inside(some_scenes: list[pictures.Scene]) -> None:
    for scene in some_scenes:
        for index, item in enumerate(scene.objects):
            assert item.radius < item.x < 1 - item.radius, scene.caption
            assert item.radius < item.y < 1 - item.radius, scene.caption
            for other in scene.objects[:index]:
                assert np.hypot(item.x - other.x, item.y - other.y) > 0.95 * (item.radius + other.radius), scene.caption


def test_captions_follow_the_objects(some_scenes: list[pictures.Scene]) -> None:
    for scene in some_scenes:
        first = scene.objects[0]
        if " above " in scene.caption:
            assert scene.objects[1].y - first.y > 0.3
        elif " left of " in scene.caption:
            assert scene.objects[1].x - first.x > 0.3
        elif len(scene.objects) == 1:
            size = "" if first.size == "medium" else f"{first.size} "
            assert scene.caption == scenes.with_article(f"{size}{first.phrase}")
        elif len({item.phrase for item in scene.objects}) == 1:
            count = scenes.NUMBERS[len(scene.objects)]
            assert scene.caption == f"{count} {first.colour} {scenes.plural(first.shape)}"
        else:
            assert [item.x for item in scene.objects] == sorted(item.x for item in scene.objects)


def test_answers_are_true(some_scenes: list[pictures.Scene]) -> None:
    yes = no = 0
    for scene in some_scenes:
        answers = dict(scene.questions)
        assert len(answers) == len(scene.questions), "two answers to one question"
        assert answers["what is in the picture"] == scene.caption
        assert answers["what colour is the background"] == f"the background is {scene.background}"
        present = {item.shape for item in scene.objects} | {item.phrase for item in scene.objects}
        for question, answer in scene.questions:
            assert (question + answer).replace(" ", "").isalpha()
            assert question + answer == (question + answer).lower()
            if question.startswith("is there "):
                noun = question.split(" ", 3)[3]
                assert answer.startswith("yes") == (noun in present), (scene.caption, question, answer)
                yes, no = yes + (noun in present), no + (noun not in present)
            for item in scene.objects:
                if question == f"what colour is the {item.shape}":
                    assert answer == f"the {item.shape} is {item.colour}"
                if question == f"what shape is {item.colour}":
                    assert answer == f"the {item.colour} shape is a {item.shape}"
    assert 0.4 < yes / (yes + no) < 0.6  # always saying yes must not pay


def test_a_single_object_is_where_it_is_said_to_be() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        scene = pictures.scene(rng, split="train")
        for question, answer in scene.questions:
            if question.startswith("where is"):
                item = scene.objects[0]
                said = answer.split(" is ", 1)[1]
                moved = {
                    "on the left": item.x < 0.4,
                    "on the right": item.x > 0.6,
                    "at the top": item.y < 0.4,
                    "at the bottom": item.y > 0.6,
                    "in the centre": abs(item.x - 0.5) < 0.1 and abs(item.y - 0.5) < 0.1,
                }
                assert moved[said]
                seen.add(said)
    assert len(seen) == 5


def test_words_and_fonts_are_held_out() -> None:
    rng = np.random.default_rng(2)
    train = {pictures.word_picture(rng, split="train").word for _ in range(150)}
    heldout = {pictures.word_picture(rng, split="heldout").word for _ in range(150)}
    assert train.isdisjoint(heldout)
    assert all(glyphs.MIN_LETTERS <= len(word) <= glyphs.MAX_LETTERS and word.isalnum() for word in train | heldout)
    families = {font.package for font in glyphs.HELDOUT_FONTS}
    assert families.isdisjoint(font.package for font in glyphs.TRAIN_FONTS)
    assert len(glyphs.HELDOUT_FONTS) >= 2


@pytest.mark.parametrize("font", [*glyphs.TRAIN_FONTS, *glyphs.HELDOUT_FONTS, glyphs.ICON_FONT], ids=lambda f: f.file)
def test_every_font_is_installed(font: glyphs.Font) -> None:
    text = "agq08" if font != glyphs.ICON_FONT else "\uf015"
    left, top, right, bottom = glyphs.typeface(font, 40).getbbox(text)
    assert right - left > 20
    assert bottom - top > 15


def test_a_missing_font_is_named() -> None:
    with pytest.raises(ValueError, match="sensorium\\[train\\]"):
        glyphs.typeface(glyphs.Font("no_such_font_package", "x.ttf"), 20)


def test_words_stay_inside_the_picture() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        pixels = pictures.word_picture(rng, split="train").pixels.astype(int)
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        ground = np.median(edge, axis=0)
        assert (np.abs(edge - ground).sum(axis=1) > 120).mean() < 0.03


def test_the_held_out_icon_style_never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    styles: list[str] = []
    original = icons._draw

    def spy(canvas, marks, style, *rest) -> icons.Box:
        styles.append(style)
        return original(canvas, marks, style, *rest)

    monkeypatch.setattr(icons, "_draw", spy)
    rng = np.random.default_rng(6)
    names = {pictures.icon_picture(rng, split="train").name for _ in range(300)}
    assert icons.HELDOUT_STYLE not in styles
    styles.clear()
    for _ in range(60):
        pictures.icon_picture(rng, split="heldout")
    assert icons.HELDOUT_STYLE in styles
    assert {"house", "arrow left", "happy face"} <= names
    assert any(name.startswith("clock at ") for name in names)


def test_the_held_out_look_of_emoji_never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    original = emoji._drawn

    def spy(name: str, look: emoji.Look) -> PIL.Image.Image:
        looks.append(look)
        return original(name, look)

    monkeypatch.setattr(emoji, "_drawn", spy)
    rng = np.random.default_rng(6)
    names = {pictures.emoji_picture(rng, split="train").name for _ in range(400)}
    assert set(looks) == set(emoji.LOOKS) - {emoji.HELDOUT_LOOK}
    assert len(names) > 70
    looks.clear()
    for _ in range(60):
        pictures.emoji_picture(rng, split="heldout")
    assert set(looks) == {emoji.HELDOUT_LOOK}
    with pytest.raises(ValueError, match="must not train"):
        pictures.emoji_picture(rng, split="train", look=emoji.HELDOUT_LOOK)


def test_emoji_stand_out_from_their_ground() -> None:
    grounds = [ground for ground in scenes.BACKGROUNDS.values() if emoji._stands_out("ghost", "blob", ground)]
    assert scenes.BACKGROUNDS["black"] in grounds
    assert scenes.BACKGROUNDS["white"] not in grounds
    for look in emoji.LOOKS:
        for name in emoji._collected()["looks"][look]["svg"]:
            assert any(emoji._stands_out(name, look, ground) for ground in scenes.BACKGROUNDS.values()), (name, look)


def test_every_emoji_has_a_character_and_most_have_all_looks() -> None:
    names = emoji.characters()
    assert len(set(names.values())) == len(names) == 79
    for look in emoji.LOOKS:
        drawn = set(emoji._collected()["looks"][look]["svg"])
        assert drawn <= set(names)
        assert drawn == set(names) or look == "fxemoji"
        assert emoji.sources()[look]["licence"] in ("MIT", "Apache-2.0", "CC-BY-4.0"), "not share-alike"


def test_what_is_drawn_to_order_is_one_drawing_in_the_colour_that_was_asked_for() -> None:
    one, other = icons.icon_drawing("house"), icons.icon_drawing("house", "blue")
    assert np.array_equal(one.pixels, icons.icon_drawing("house").pixels)
    assert (one.colour, other.colour) == ("red", "blue")
    for name in icons.icon_names():
        for colour in scenes.COLOURS:
            pixels = icons.icon_drawing(name, colour).pixels.reshape(-1, 3).astype(int)
            counts = {each: (np.abs(pixels - rgb).sum(1) < 12).sum() for each, rgb in scenes.COLOURS.items()}
            assert max(counts, key=counts.__getitem__) == colour, (name, colour)
        held_out = set(icons.colours_to_draw(name, "heldout"))
        assert held_out.isdisjoint(icons.colours_to_draw(name, "train"))
        assert len(held_out) < 5
    names = {icons.icon_to_draw(np.random.default_rng(seed)) for seed in range(200)}
    assert len(names & set(icons.NAMES)) > 20
    assert any(name.startswith("clock at ") for name in names)
    assert np.array_equal(emoji.emoji_drawing("dog").pixels, emoji.emoji_drawing("dog").pixels)
    assert emoji.emoji_drawing("dog", size=96).pixels.shape == (96, 96, 3)


def test_what_is_asked_of_emoji_can_be_told_from_icons() -> None:
    assert "a dog" in emoji.emoji_orders("dog")
    assert "a house" not in emoji.emoji_orders("house"), "that is the icon"
    assert ("what is 🏠", "a house") in emoji.emoji_questions("house")


def test_arrows_and_clocks_are_asked_for_as_people_say_it() -> None:
    assert icons.icon_orders("house", "orange") == ("an orange house",)
    assert "a red arrow pointing left" in icons.icon_orders("arrow left", "red")
    assert icons.icon_orders("clock at three") == ("a clock at three", "a clock that shows three o'clock")


def test_digits_of_one_hand_and_of_all() -> None:
    rng = np.random.default_rng(9)
    assert {pictures.digit_picture(rng, split="train").digit for _ in range(120)} == set("0123456789")


def things_in(labels: np.ndarray) -> np.ndarray:
    """The label names of a picture, by patch row and label column."""
    rows = labels.reshape(pictures.GRID, pictures.GRID * pictures.LABEL_COLUMNS, 3)
    return np.array(pictures.LABEL_THINGS)[rows[..., 0]]


def test_a_word_can_be_read_off_its_labels() -> None:
    rng = np.random.default_rng(3)
    right = 0
    for _ in range(200):
        picture = pictures.word_picture(rng, split="train")
        labels = pictures.patch_labels(picture)
        begins = labels.reshape(pictures.GRID, -1, 3)[..., 1]
        row = int(begins.sum(axis=1).argmax())
        right += "".join(things_in(labels)[row][begins[row] == 1]) == picture.word
        assert (labels[..., 2] == -1).all()  # the words of the picture name no colour
    assert right >= 195  # two narrow letters may begin within the same two pixels


def test_a_form_can_be_read_off_its_labels() -> None:
    rng = np.random.default_rng(3)
    right = 0
    for _ in range(50):
        form = figures.form(rng, split="train")
        read = "".join(region.name for region in form.regions)
        assert read == form.caption.replace(" ", "")
        labels = pictures.patch_labels(form)
        seen = set(things_in(labels).ravel())
        right += set(read) <= seen
    assert right >= 45  # a narrow letter may lie between two label columns
    assert (pictures.patch_labels(figures.clock(rng, split="train")) == -1).all()  # nobody says what is where in it


def test_scenes_are_labelled_where_their_objects_are(some_scenes: list[pictures.Scene]) -> None:
    for scene in some_scenes[:100]:
        labels = pictures.patch_labels(scene)
        assert labels.shape == (pictures.GRID, pictures.GRID, pictures.LABEL_COLUMNS, 3)
        things = things_in(labels)
        colours = np.array(pictures.LABEL_COLOURS)[labels.reshape(pictures.GRID, -1, 3)[..., 2]]
        assert set(things.ravel()) == {"", *(item.shape for item in scene.objects)}
        for item in scene.objects:
            at = int(item.y * pictures.GRID), int(item.x * pictures.GRID * pictures.LABEL_COLUMNS)
            assert (things[at], colours[at]) == (item.shape, item.colour)
        assert (colours[things == ""] == f"{scene.background} ground").all()


@pytest.mark.parametrize("generator", LABELLED, ids=lambda generator: generator.__name__)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_picture_shows_something_inside_it(generator, split: canvas.Split) -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        picture = generator(rng, split=split)
        assert things_in(pictures.patch_labels(picture)).any()
        for region in picture.regions:
            assert -0.1 < region.left < region.right < 1.1
            assert -0.1 < region.top < region.bottom < 1.1


@pytest.mark.parametrize("kind", edits.KINDS)
def test_an_edit_changes_what_it_names_and_nothing_else(kind: edits.Kind) -> None:
    for seed in range(40):
        made = edits.edit(np.random.default_rng(seed), split="train", kind=kind)
        before, after = made.before, made.after
        assert before.background == after.background
        changed = np.any(before.pixels.astype(int) != after.pixels, axis=2)
        boxes = np.zeros_like(changed)
        for item in set(before.objects) ^ set(after.objects):
            left, right = (max(0, int((item.x + side * 1.2 * item.radius) * 64 + side)) for side in (-1, 1))
            top, bottom = (max(0, int((item.y + side * 1.2 * item.radius) * 64 + side)) for side in (-1, 1))
            boxes[top : bottom + 2, left : right + 2] = True
        assert changed.any()
        assert not (changed & ~boxes).any(), (made.order, before.caption)
        sizes = {"add": 1, "remove": -1}
        assert len(after.objects) - len(before.objects) == sizes.get(kind, 0)


def test_edits_are_worded_as_scenes_are() -> None:
    rng = np.random.default_rng(3)
    scene = next(scene for scene in iter(lambda: pictures.scene(rng, split="train"), None) if " and " in scene.caption)
    assert edits.caption_of(scene.objects) == scene.caption
    pair = next(scene for scene in iter(lambda: pictures.scene(rng, split="train"), None) if " above " in scene.caption)
    assert edits.caption_of(pair.objects) == pair.caption


def test_what_an_edit_aims_at_is_the_changed_picture_and_where_a_thing_has_been_moved() -> None:
    rng = np.random.default_rng(5)
    for kind in edits.KINDS:
        made = edits.edit(rng, split="train", kind=kind)
        where = made.order.split(" to ")[-1].removeprefix("the ") if kind == "move" else ""
        assert made.aim.startswith(made.after.caption)
        assert made.aim.removeprefix(made.after.caption).split()[-1:] == where.split()


def test_an_order_may_say_where_the_thing_is_and_tells_which_of_two():
    placed = 0
    for seed in range(60):
        made, plain = (edits.edit(np.random.default_rng(seed), split="train", placed=share) for share in (1.0, 0.0))
        several = len(made.before.objects) > 1
        assert bool(made.where) == (several and made.kind in ("remove", "recolour"))
        assert not any(phrase in plain.order for phrase in scenes.PLACES) or plain.kind == "move"
        if made.where:
            placed += 1
            (chosen,) = [item for item in made.before.objects if item not in made.after.objects]
            assert made.where == f"the {chosen.phrase} {scenes.place(chosen)}"
            assert f"{chosen.shape} {scenes.place(chosen)}" in made.order
    assert placed > 5


def test_an_order_that_follows_a_drawing_says_it_where_there_is_one_thing() -> None:
    told: set[str] = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made = edits.edit(rng, split="train")
        order = edits.followed(rng, made)
        told |= set(order.split())
        is_alone = len(made.before.objects) == 1
        assert made.before.objects[0].shape not in order.split() or not is_alone
    assert {"it", "its", "now", "please", "can"} <= told


def test_held_out_edits_never_train() -> None:
    rng = np.random.default_rng(4)
    held_out, trained = (
        {
            (made.before.caption, made.before.background, made.order)
            for made in (edits.edit(rng, split=split) for _ in range(150))
        }
        for split in ("heldout", "train")
    )
    assert held_out.isdisjoint(trained)


def test_a_clock_says_its_time() -> None:
    assert [figures.time_words(hour, 0) for hour in (0, 1, 11)] == ["twelve o'clock", "one o'clock", "eleven o'clock"]
    assert figures.time_words(11, 3) == "quarter to twelve"
    assert figures.time_words(0, 2) == "half past twelve"
    made = figures.clock(np.random.default_rng(0), split="train")
    assert {answer for _, answer in made.questions} == {f"it is {made.caption.removeprefix('a clock at ')}"}


def test_bars_are_as_high_as_they_are_said_to_be() -> None:
    for seed in range(30):
        made = figures.bar_chart(np.random.default_rng(seed), split="train", size=128)
        words = made.caption.removeprefix("bars, ").split(", ")
        heights = {colour: scenes.NUMBERS.index(number) for colour, number in map(str.split, words)}
        asked = dict(made.questions)
        highest = max(heights, key=lambda colour: heights[colour])
        assert asked["which bar is the highest"] == f"the {highest} bar is the highest"
        rgb = np.array(scenes.COLOURS[highest])
        near = np.abs(made.pixels.astype(int) - rgb).max(axis=2) <= 24
        rows = np.flatnonzero(near.sum(axis=1) >= 4)
        assert 128 * 0.95 - rows.min() == pytest.approx(heights[highest] * 0.1 * 128, abs=3)


def test_a_form_asks_for_what_is_filled_in() -> None:
    made = figures.form(np.random.default_rng(1), split="heldout")
    for question, answer in made.questions:
        assert f"{question.removeprefix('what is the ')} {answer}" in made.caption
