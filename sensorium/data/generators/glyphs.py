"""Words and numbers set in type.

The fonts come from wheels (the `train` extra) and Pillow itself, never from the system: the same seed
gives the same bytes on every machine. Whole families are held out, and one word in ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sensorium.data.generators.canvas import RGB, SUPERSAMPLING, Region, Split, contrast, in_split, jitter


class Font(NamedTuple):
    """A font file inside an installed package; no package means the font inside Pillow."""

    package: str
    file: str


_MATPLOTLIB = "mpl-data/fonts/ttf"
TRAIN_FONTS = (
    *(
        Font("matplotlib", f"{_MATPLOTLIB}/{name}.ttf")
        for name in (
            "DejaVuSans",
            "DejaVuSans-Bold",
            "DejaVuSans-Oblique",
            "DejaVuSansMono",
            "DejaVuSansMono-Bold",
            "DejaVuSerif",
            "DejaVuSerif-Bold",
            "DejaVuSerif-Italic",
            "STIXGeneral",
            "STIXGeneralBol",
            "STIXGeneralItalic",
            "cmr10",
            "cmb10",
            "cmss10",
            "cmtt10",
        )
    ),
    *(Font("font_roboto", f"files/Roboto-{style}.ttf") for style in ("Light", "Regular", "Medium", "Bold", "Italic")),
    *(Font("font_caladea", f"files/Caladea-{style}.ttf") for style in ("Regular", "Bold", "Italic")),
    *(
        Font("font_hanken_grotesk", f"files/HankenGrotesk-{style}.otf")
        for style in ("Light", "Regular", "SemiBold", "Bold", "Italic")
    ),
    *(Font("font_manrope", f"files/Manrope-{style}.ttf") for style in ("Light", "Regular", "ExtraBold")),
    Font("font_intuitive", "files/Intuitive.ttf"),
    Font("font_amatic_sc", "files/AmaticSC-Bold.ttf"),
    Font("", "Aileron"),
)
HELDOUT_FONTS = (
    Font("font_source_serif_pro", "files/SourceSerifPro-Regular.ttf"),
    Font("font_source_serif_pro", "files/SourceSerifPro-Bold.ttf"),
    Font("font_fredoka_one", "files/FredokaOne-Regular.ttf"),
)
ICON_FONT = Font("font_font_awesome", "files/FontAwesome5-Free-Solid.otf")

MIN_LETTERS, MAX_LETTERS = 2, 8
WORDS = tuple(
    """
    air animal ant apple april arm art august autumn baby back bag ball banana band bank barn basket bath beach bean
    bear bed bee beef bell belt bench bike bird black blue board boat body bone book boot bottle bowl box boy branch
    bread brick bridge brother brown brush bucket bus bush butter button cabin cake camera camp can candle candy cap car
    card carrot castle cat cave chain chair cheese cherry chicken child church circle city clay clean clock closed cloth
    cloud coal coat coffee coin cold cook copper corn cotton country cow cream cross crown cup dance danger dark day
    deep deer desert desk dinner dish doctor dog doll dollar door down dragon dream dress drink drum dry duck ear early
    earth east egg eight elephant empty end enter evening exit eye face family farm farmer fast father feather fence
    field fire fish five flag floor flower fly food foot forest fork four fox free friday friend frog fruit full game
    garden gate ghost giant gift girl glass glove go goat gold good goose grape grass gray green ground guitar hair half
    hammer hand happy harbor hard hat head heart heavy hello help hen high hill home honey horse hospital hot hotel
    hour house ice iron island jacket jam january job juice july jump june key kind king kitchen kite knee knife
    lake lamb lamp large late leaf left leg lemon letter library light lion lip list little long lost love low lunch
    machine magic mail man map march market may meat menu metal middle milk mind mirror monday money monkey month moon
    morning mother mountain mouse mouth mud music nail name neck needle nest net new night nine no north nose nurse nut
    ocean office oil old one onion open orange oven owl ox page paint pair pan paper parent park parrot party path pay
    peace peach pear pen pencil people pepper phone photo piano picnic picture pig pillow pink pipe pizza plane planet
    plant plate play pocket pond pony pool poor post pot potato price prince public pull pump purple push queen quick
    quiet rabbit radio rain rat ready red rest rice rich right ring river road robot rock roof room root rope rose
    round sad sail salad sale salt sand saturday school sea seat seed seven shadow sheep ship shirt shoe shop short
    silver sing sister six skirt sky sleep slow small smile smoke snake snow soap sock soft song soup south spider spoon
    spring square stairs star station stone stop store storm street strong sugar summer sun sunday sweet swim table
    tail tall tea teacher ten tent thank three thunder thursday tiger time today toe tomato tooth top tower town toy
    track train tree triangle truck tuesday turtle two uncle under up valley village violin visitor voice walk wall warm
    watch water wave way week west wet whale wheat wheel white wild win wind window wine winter wire wolf woman wood
    wool word work world yard year yellow yes young zebra zero zoo
    """.split()
)

_ONSETS = "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr pl pr sh sl sp st th tr".split()
_VOWELS = "a e i o u a e i o u ai ea ee oa oo ou".split()
_CODAS = ["", "", "", *"b d g k l m n p r s t x ck ll mp nd ng nk nt rd rk rn rt sh ss st th".split()]

_MIN_CONTRAST = 4.0
_REFERENCE_PX = 100  # the size at which a word is measured before it is fitted
_SIZE_STEP_PX = 4  # font sizes are rounded (at four times the resolution), so that few fonts are held open


class WordPicture(NamedTuple):
    pixels: np.ndarray  # (size, size, 3) uint8
    word: str
    regions: tuple[Region, ...]  # one for each character, in lower case


def word_picture(rng: np.random.Generator, *, split: Split, size: int = 64) -> WordPicture:
    """One word, number or pronounceable string of 2-8 characters, set so that all of it can be read.

    `word` is in lower case, whatever the case of its letters in the picture. Held-out pictures show held-out
    words in held-out fonts. Raises ValueError for an unknown split and for a font that is not installed.
    """
    word = _word(rng)
    while not in_split(word, split):
        word = _word(rng)
    fonts = TRAIN_FONTS if split == "train" else HELDOUT_FONTS
    pixels, regions = _typeset(rng, _cased(rng, word), fonts[int(rng.integers(len(fonts)))], size)
    return WordPicture(pixels, word, regions)


def _word(rng: np.random.Generator) -> str:
    draw = rng.random()
    if draw < 0.5:
        return WORDS[int(rng.integers(len(WORDS)))]
    if draw < 0.65:
        return str(int(rng.integers(10, 10 ** int(rng.integers(2, 5)))))
    syllables = int(rng.integers(1, 4))
    word = ""
    while not MIN_LETTERS <= len(word) <= MAX_LETTERS:
        parts = [_letters(rng, _ONSETS) + _letters(rng, _VOWELS) for _ in range(syllables)]
        word = "".join(parts) + _letters(rng, _CODAS)
    return word


def _letters(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _cased(rng: np.random.Generator, word: str) -> str:
    draw = rng.random()
    return word if draw < 0.7 else word.capitalize() if draw < 0.85 else word.upper()


def _typeset(rng: np.random.Generator, word: str, font: Font, size: int) -> tuple[np.ndarray, tuple[Region, ...]]:
    side = size * SUPERSAMPLING
    left, top, right, bottom = typeface(font, _REFERENCE_PX).getbbox(word)
    # Long words need the whole width to stay legible; short ones may be smaller.
    widest, shortest = 0.92 * side, (0.5 + 0.05 * min(len(word), 8)) * side
    px = rng.uniform(shortest, widest) / (right - left) * _REFERENCE_PX
    px = min(px, 0.5 * side / (bottom - top) * _REFERENCE_PX)
    face = typeface(font, max(_SIZE_STEP_PX, int(px) // _SIZE_STEP_PX * _SIZE_STEP_PX))
    left, top, right, bottom = face.getbbox(word)
    room_x, room_y = max(0.0, 0.96 * side - (right - left)), max(0.0, 0.8 * side - (bottom - top))
    x = (side - right - left) / 2 + rng.uniform(-0.5, 0.5) * room_x
    y = (side - bottom - top) / 2 + rng.uniform(-0.5, 0.5) * room_y
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).text((x, y), word, fill=255, font=face)
    if rng.random() < 0.4:  # about the word's middle, so that it stays inside
        degrees = rng.uniform(-1, 1) * min(6.0, 60.0 / len(word) ** 1.2)
        centre = (x + (left + right) / 2, y + (top + bottom) / 2)
        mask = mask.rotate(degrees, Image.Resampling.BILINEAR, center=centre)
    ink, ground = readable_colours(rng)
    image = Image.new("RGB", (side, side), ground)
    image.paste(ink, mask=mask)
    edges = [(x + face.getlength(word[:index])) / side for index in range(len(word) + 1)]
    above, below = (y + top) / side, (y + bottom) / side
    regions = [Region(character.lower(), edges[i], above, edges[i + 1], below) for i, character in enumerate(word)]
    return np.array(image.reduce(SUPERSAMPLING)), tuple(regions)


def readable_colours(rng: np.random.Generator) -> tuple[RGB, RGB]:
    """Ink and ground, far enough apart in luminance."""
    style = rng.random()
    if style < 0.2:  # a page
        return (jitter(rng, (20, 20, 20), 20), jitter(rng, (242, 242, 242), 13))
    while True:
        drawn = rng.integers(0, 256, 6).tolist()
        ink, ground = tuple(drawn[:3]), tuple(drawn[3:])
        if style < 0.5:
            ink = (20, 20, 20) if rng.random() < 0.5 else (245, 245, 245)
        if contrast(ink, ground) > _MIN_CONTRAST:
            return ink, ground


@lru_cache(maxsize=512)
def typeface(font: Font, px: int) -> ImageFont.FreeTypeFont:
    """An open font. Raises ValueError when its package is not installed."""
    if not font.package:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(px))
    # Basic layout: the shaping library that Pillow may find on a machine moves letters by fractions of a pixel.
    return ImageFont.truetype(str(font_path(font)), px, layout_engine=ImageFont.Layout.BASIC)


@cache
def font_path(font: Font) -> Path:
    spec = find_spec(font.package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the fonts of {font.package!r} are not installed; install sensorium[train]")
    path = Path(spec.origin).parent / font.file
    if not path.is_file():
        raise ValueError(f"{font.package!r} is installed without {font.file}; reinstall it")
    return path
