"""Judges of what the network says and draws, trained apart from it: on sound and pixels, never on its codes.

    SpeechJudge    log-mel -> characters, by CTC; says what it hears
    StyleJudge     log-mel -> how it is said: fast, whispered, .. or as usual
    SceneJudge     pixels -> the shapes in a scene, one prediction for each of 8 x 8 cells
    IconJudge      pixels -> the name of an icon or an emoji, or that it shows none

`recipes/judges.py` trains them from the generators and writes their held-out figures beside the weights. Trained ones
travel with the package, in `SHIPPED`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import soxr
import torch  # noqa: TID253 - judges are networks; nothing imports this file but who judges
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from torch import Tensor, nn  # noqa: TID253

from sensorium.evals.report import with_error
from sensorium.evals.scorers import SeenObject, SeenScene
from sensorium.messages import Audio, Image

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "judges"

# --- hearing

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160  # 10 ms
FRAMES_PER_STEP = 2  # the judge hears 50 steps a second
_WINDOW_SAMPLES, _FFT_SIZE = 400, 512
_NUM_MELS, _LOWEST_HZ, _HIGHEST_HZ = 80, 60.0, 7800.0

CHARACTERS = "abcdefghijklmnopqrstuvwxyz' "
BLANK = len(CHARACTERS)  # the CTC blank comes last
_SPACE = CHARACTERS.index(" ")
_UNLIKELY = 0.005  # characters below this share at a step are not looked at


def mel_filters() -> Tensor:
    """Triangles of equal width on the mel scale, (257, 80)."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)

    edges = np.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), _NUM_MELS + 2)
    bins = mel(np.fft.rfftfreq(_FFT_SIZE, 1 / SAMPLE_RATE_HZ))[:, None]  # (257, 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling))).float()


_FILTERS = mel_filters()


def log_mel(waveform: np.ndarray) -> Tensor:
    """The log-mel spectrum of sound at 16 kHz, (T, 80), each band with its mean taken out: loudness and the
    microphone's response do not matter."""
    mels = loud_mel(waveform)
    return (mels - mels.mean(0)) / (mels.std() + 1e-3)


def loud_mel(waveform: np.ndarray) -> Tensor:
    """The log-mel spectrum of sound at 16 kHz, (T, 80), as loud as it is."""
    samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    samples = nn.functional.pad(samples, (0, max(0, _FFT_SIZE - len(samples))))
    window = torch.hann_window(_WINDOW_SAMPLES)
    spectrum = torch.stft(
        samples, _FFT_SIZE, HOP_SAMPLES, _WINDOW_SAMPLES, window, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square().T @ _FILTERS  # (T, 80)
    # A floor 70 dB below the loudest frame: digital silence would otherwise decide the scale.
    return power.clamp_min(float(power.max()) * 1e-7 + 1e-10).log()


class _Block(nn.Module):
    """A depthwise convolution over time, then a two-layer perceptron, added to what came in."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:  # (B, T, C)
        mixed = self.over_time(self.norm(hidden).transpose(1, 2)).transpose(1, 2)
        return hidden + self.project(torch.relu(self.expand(mixed)))


class SpeechJudge(nn.Module):
    """A recogniser of the domain's speech, 1.3 M parameters; it hears 1.1 s to either side of a step.

    `words` is its lexicon: what it hears is made of these words, as a listener's is who knows the language but not
    the sentence. Without one it spells what it hears.
    """

    def __init__(
        self, *, words: Sequence[str] = (), width: int = 192, num_blocks: int = 8, kernel_size: int = 15
    ) -> None:
        super().__init__()
        self.config = {"words": list(words), "width": width, "num_blocks": num_blocks, "kernel_size": kernel_size}
        self.width = width
        self.stem = nn.Conv1d(_NUM_MELS, width, 5, stride=FRAMES_PER_STEP, padding=2)
        self.blocks = nn.Sequential(*(_Block(width, kernel_size) for _ in range(num_blocks)), nn.LayerNorm(width))
        self.characters = nn.Linear(width, len(CHARACTERS) + 1)
        self._lexicon = lexicon(words)

    def hidden(self, mels: Tensor) -> Tensor:
        """(B, T, 80) -> (B, ceil(T / 2), C)."""
        return self.blocks(self.stem(mels.transpose(1, 2)).transpose(1, 2))

    def forward(self, mels: Tensor) -> Tensor:
        """Logits of characters and blank, (B, ceil(T / 2), 29)."""
        return self.characters(self.hidden(mels))

    @torch.inference_mode()
    def transcribe(self, audio: Audio) -> str:
        """What is said in a clip of any rate, in lower-case words."""
        if len(audio.waveform) == 0:
            return ""
        waveform = soxr.resample(audio.waveform, audio.sample_rate_hz, SAMPLE_RATE_HZ)
        steps = self(log_mel(waveform)[None])[0].softmax(-1).numpy()  # (T, 29)
        return in_words(steps, self._lexicon) if self._lexicon else spelled(steps.argmax(-1).tolist())


def spelled(steps: Sequence[int]) -> str:
    """A CTC path as text, repetitions and blanks left out."""
    return _text([step for before, step in pairwise([BLANK, *steps]) if step not in (before, BLANK)])


def _text(characters: Sequence[int]) -> str:
    return " ".join("".join(CHARACTERS[character] for character in characters).split())


def spelling(text: str) -> list[int]:
    """The characters of normalized text. Raises ValueError for one that the judge cannot write."""
    if unknown := set(text) - set(CHARACTERS):
        raise ValueError(f"the judge writes only a-z, apostrophe and space, not {''.join(sorted(unknown))!r}")
    return [CHARACTERS.index(character) for character in text]


Lexicon: TypeAlias = "dict[int, Lexicon]"
"""Words by their characters: the node after a whole word leads by a space to the root, where the next word begins."""


def lexicon(words: Sequence[str]) -> Lexicon:
    root: Lexicon = {}
    for word in words:
        node = root
        for character in spelling(word):
            node = node.setdefault(character, {})
        node[_SPACE] = root
    return root


class _Hypothesis(NamedTuple):
    """The share of all CTC paths that spell one text, by how they end, and where it stands in the lexicon."""

    blank: float
    character: float
    node: Lexicon


def in_words(steps: np.ndarray, words: Lexicon, *, beam_size: int = 8) -> str:
    """The likeliest words of the lexicon under a CTC model, by prefix beam search.

    steps: (T, 29) shares of the characters and the blank at each step.
    """
    beam: dict[tuple[int, ...], _Hypothesis] = {(): _Hypothesis(1.0, 0.0, words)}
    for step in steps:
        shares = step.tolist()
        likely = [character for character in range(BLANK) if shares[character] > _UNLIKELY]
        grown: dict[tuple[int, ...], _Hypothesis] = {}

        def add(text: tuple[int, ...], blank: float, character: float, node: Lexicon, grown=grown) -> None:
            known = grown.get(text, _Hypothesis(0.0, 0.0, node))
            grown[text] = _Hypothesis(known.blank + blank, known.character + character, node)

        for text, (blank, character, node) in beam.items():
            add(text, (blank + character) * shares[BLANK], character * shares[text[-1]] if text else 0.0, node)
            for following in likely:
                if (child := node.get(following)) is not None:
                    # The same character twice needs a blank in between, or it is the same one going on.
                    ends = blank if text and following == text[-1] else blank + character
                    add((*text, following), 0.0, ends * shares[following], child)
        best = sorted(grown.items(), key=lambda item: -(item[1].blank + item[1].character))[:beam_size]
        total = sum(blank + character for _, (blank, character, _) in best) or 1.0
        beam = {text: _Hypothesis(blank / total, character / total, node) for text, (blank, character, node) in best}

    def share(text: tuple[int, ...]) -> float:
        """A text of whole words is preferred, but a clip may end within a word."""
        blank, character, node = beam[text]
        return (blank + character) * (1.0 if node is words or _SPACE in node else 0.01)

    return _text(max(beam, key=share))


class StyleJudge(nn.Module):
    """Tells the manner of speaking: a few convolutions over time, then the mean and the spread of what they find."""

    def __init__(self, *, styles: Sequence[str], width: int = 96, num_blocks: int = 4, kernel_size: int = 15) -> None:
        super().__init__()
        self.config = {"styles": list(styles), "width": width, "num_blocks": num_blocks, "kernel_size": kernel_size}
        self.styles = tuple(styles)
        self.stem = nn.Conv1d(_NUM_MELS, width, 5, stride=FRAMES_PER_STEP, padding=2)
        self.blocks = nn.Sequential(*(_Block(width, kernel_size) for _ in range(num_blocks)))
        self.output = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, len(styles)))

    def forward(self, mels: Tensor, num_steps: Tensor) -> Tensor:
        """(B, T, 80) of `loud_mel`, zero-padded, and the steps (B,) of each clip -> logits (B, styles)."""
        hidden = self.blocks(self.stem((mels / 4.0).transpose(1, 2)).transpose(1, 2))  # (B, T / 2, C)
        inside = (torch.arange(hidden.shape[1], device=hidden.device) < num_steps[:, None])[..., None]
        count = num_steps[:, None].clamp_min(1)
        mean = (hidden * inside).sum(1) / count
        spread = (((hidden - mean[:, None]) * inside).square().sum(1) / count + 1e-5).sqrt()
        return self.output(torch.cat((mean, spread), dim=-1))

    @torch.inference_mode()
    def manner(self, audio: Audio) -> str:
        """The style of a clip of any rate."""
        waveform = soxr.resample(audio.waveform, audio.sample_rate_hz, SAMPLE_RATE_HZ)
        mels = loud_mel(waveform)
        steps = torch.tensor([-(-len(mels) // FRAMES_PER_STEP)])
        return self.styles[int(self(mels[None], steps)[0].argmax())]


# --- seeing

PICTURE_SIZE = 64
GRID = 8  # cells a side; no two centres of a scene share a cell or touch


class CellTargets(NamedTuple):
    """What the cells of B pictures hold. `shape` and `colour` are -1 where no object's centre is."""

    shape: Tensor  # (B, 8, 8) int64
    colour: Tensor  # (B, 8, 8) int64
    place: Tensor  # (B, 8, 8, 3): x and y within the cell, 0 .. 1, and the radius as a fraction of the side


class SceneJudge(nn.Module):
    """A detector of single-coloured shapes: every cell says whether an object's centre lies in it, and which."""

    def __init__(self, *, shapes: Sequence[str], colours: Sequence[str], width: int = 32) -> None:
        super().__init__()
        self.config = {"shapes": list(shapes), "colours": list(colours), "width": width}
        self.shapes, self.colours = tuple(shapes), tuple(colours)
        self.layers = nn.Sequential(
            *_convolution(3, width, stride=2),  # 32 x 32
            *_convolution(width, 2 * width, stride=2),  # 16 x 16
            *_convolution(2 * width, 2 * width),
            *_convolution(2 * width, 4 * width, stride=2),  # 8 x 8
            *_convolution(4 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
            nn.Conv2d(4 * width, 1 + len(shapes) + len(colours) + 3, 1),
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, 64, 64) in 0 .. 1 -> for each cell: presence, shape and colour logits, and place (B, 8, 8, ..)."""
        cells = self.layers(2.0 * pixels - 1.0).permute(0, 2, 3, 1)
        presence, shape, colour, place = cells.split((1, len(self.shapes), len(self.colours), 3), dim=-1)
        return presence.squeeze(-1), shape, colour, place.sigmoid()

    @torch.inference_mode()
    def see(self, image: Image) -> SeenScene:
        """The objects of a picture of any size, from top to bottom."""
        logits, shape, colour, place = (output[0] for output in self(_as_judged(image)))
        presence = logits.sigmoid()[None]
        # A centre on the border of cells is claimed by all of them, by each a little: their claims are added, and the
        # cell that claims most has the object.
        claims = nn.functional.avg_pool2d(presence, 3, stride=1, padding=1, divisor_override=1)[0]
        is_peak = presence[0] == nn.functional.max_pool2d(presence, 3, stride=1, padding=1)[0]
        is_sure = not bool((is_peak & (claims > 0.3) & (claims < 0.7)).any())
        objects: list[SeenObject] = []
        for row, column in (is_peak & (claims > 0.5)).nonzero().tolist():
            shape_share, shape_index = shape[row, column].softmax(-1).max(-1)
            colour_share, colour_index = colour[row, column].softmax(-1).max(-1)
            is_sure = is_sure and bool(min(shape_share, colour_share) > 0.6)
            x, y, radius = place[row, column].tolist()
            seen = self.colours[int(colour_index)], self.shapes[int(shape_index)]
            objects.append(SeenObject(*seen, x=(column + x) / GRID, y=(row + y) / GRID, radius=radius))
        return SeenScene(tuple(objects), is_sure)

    def targets(self, scenes: Sequence[Sequence[SeenObject]]) -> CellTargets:
        """The right answer for scenes of known objects."""
        shape = torch.full((len(scenes), GRID, GRID), -1)
        colour = shape.clone()
        place = torch.zeros(len(scenes), GRID, GRID, 3)
        for index, scene in enumerate(scenes):
            for item in scene:
                row, column = (min(GRID - 1, int(part * GRID)) for part in (item.y, item.x))
                shape[index, row, column] = self.shapes.index(item.shape)
                colour[index, row, column] = self.colours.index(item.colour)
                inside = (item.x * GRID - column, item.y * GRID - row, item.radius)
                place[index, row, column] = torch.tensor(inside)
        return CellTargets(shape, colour, place)


NOTHING = "nothing"  # what a picture shows that shows none of what a judge can name


class IconJudge(nn.Module):
    """Names the one icon or emoji of a picture, or NOTHING: convolutions, then all they found together."""

    def __init__(self, *, icons: Sequence[str], width: int = 24) -> None:
        super().__init__()
        self.config = {"icons": list(icons), "width": width}
        self.icons = tuple(icons)
        self.layers = nn.Sequential(
            *_convolution(3, width, stride=2),  # 32 x 32
            *_convolution(width, 2 * width, stride=2),  # 16 x 16
            *_convolution(2 * width, 2 * width),
            *_convolution(2 * width, 4 * width, stride=2),  # 8 x 8
            *_convolution(4 * width, 4 * width),
            *_convolution(4 * width, 4 * width, stride=2),  # 4 x 4
        )
        self.output = nn.Linear(16 * 4 * width, len(icons))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 64, 64) in 0 .. 1 -> logits (B, icons)."""
        return self.output(self.layers(2.0 * pixels - 1.0).flatten(1))

    @torch.inference_mode()
    def name(self, image: Image) -> str | None:
        """What a picture of any size shows; None where the judge is unsure."""
        share, index = self(_as_judged(image)).softmax(-1)[0].max(-1)
        return self.icons[int(index)] if float(share) > 0.6 else None


def _as_judged(image: Image) -> Tensor:
    """(1, 3, 64, 64) in 0 .. 1"""
    resized = Pillow.fromarray(image.pixels).resize((PICTURE_SIZE, PICTURE_SIZE), Pillow.Resampling.BOX)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None] / 255.0


def _convolution(width_in: int, width: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width_in, width, 3, stride=stride, padding=1), nn.GroupNorm(4, width), nn.ReLU()


# --- on disk

AnyJudge: TypeAlias = SpeechJudge | StyleJudge | SceneJudge | IconJudge
Judge = TypeVar("Judge", bound=AnyJudge)


def save(judge: AnyJudge, path: Path, record: dict[str, Any]) -> None:
    """Writes `path`.safetensors (bf16) and `path`.json: the judge's shape, and `record`, its figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().bfloat16().contiguous() for name, tensor in judge.state_dict().items()}
    save_file(weights, path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps({"config": judge.config, **record}, indent=1) + "\n", "utf-8")


def load(kind: type[Judge], path: Path) -> tuple[Judge, dict[str, Any]]:
    """The judge that `save` wrote, and its record. Raises ValueError if there is none at `path`."""
    if not path.with_suffix(".json").exists():
        raise ValueError(f"no judge at {path}: train it with `python -m recipes.judges`")
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    judge = kind(**record.pop("config"))
    weights = load_file(path.with_suffix(".safetensors"))
    judge.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return judge.eval(), record


def card(folder: Path) -> str:
    """What the judges in `folder` are, and how well each knew held-out material: the records beside the weights."""
    lines = [
        "# Judges\n",
        "Small networks that say what another one has said and drawn. `python -m recipes.judges` trained them apart",
        "from it, on sound and pixels, from the generators of `sensorium/data` alone; `sensorium eval` asks them. What",
        "follows is written from the records beside the weights: shares of held-out samples, with standard errors.",
    ]
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        lines += [f"\n## {path.stem}\n", f"{record['parameters']:,} parameters, {record['num_steps']:,} steps.\n"]
        lines += ["| held out | share | samples |", "| --- | --: | --: |"]
        for figure, measured in record["heldout"].items():
            lines.append(f"| {figure.replace('_', ' ')} | {with_error(measured)} | {measured['n']:,} |")
    return "\n".join(lines) + "\n"
