"""Trains the judges of `sensorium.evals.judges` on the CPU, from the generators and nothing else.

    python -m recipes.judges                      all, into runs/judges (about 10, 4, 3 and 6 minutes of one core)
    python -m recipes.judges --only scene

They see the generators' training split through noise, blur and smear, on seeds of their own; the codec, the image
tokenizer and the network never come near them. A run that was stopped goes on from its last checkpoint. What comes
out, for each: speech.safetensors, say, and beside it a .json with its held-out figures, which README.md shows.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.data.generators import dialogues, speech, styles, translations
from sensorium.data.generators.emoji import DRAWN_LOOK, EmojiPicture, Look, characters, emoji_picture
from sensorium.data.generators.icons import IconPicture, icon_names, icon_picture
from sensorium.data.generators.scenes import COLOURS, SHAPES, Scene, scene
from sensorium.data.generators.speech import PHONEMES, PRESETS, Synthesizer, in_room
from sensorium.data.generators.styles import STYLES, Style
from sensorium.data.generators.translations import LANGUAGES, Language
from sensorium.evals import judges
from sensorium.evals.judges import BLANK, NOTHING, CellTargets, IconJudge, SceneJudge, SpeechJudge, StyleJudge
from sensorium.evals.run import estimate
from sensorium.evals.scorers import SeenObject, normalized, unaccented, word_error_rate
from sensorium.evals.task import Score
from sensorium.messages import Audio, Image
from sensorium.training.config import TrainConfig
from sensorium.training.loop import Objective, fit
from sensorium.training.optim import MuonAdamW, tokenizer_groups

SEED = 7_000_000  # far from the seeds of the corpora that the network learns from
OUT = Path("runs/judges")

# --- speech

SPEECH_STEPS, SPEECH_BATCH = 2000, 16
_FOREIGN_SHARE = 0.3  # of the sentences: phrases in one of the other languages
_STEP_MS = judges.FRAMES_PER_STEP * 1000.0 * judges.HOP_SAMPLES / judges.SAMPLE_RATE_HZ
_GROUP = 4  # batches whose sentences are drawn together and sorted by length, so that little is padding
_IGNORED = -100


class SpeechBatch(NamedTuple):
    mels: Tensor  # (B, T, 80), zero-padded
    num_steps: Tensor  # (B,) steps of each clip
    characters: Tensor  # (all characters of the batch,)
    num_characters: Tensor  # (B,)
    phonemes: Tensor  # (B, T / 2), `_IGNORED` past the end


class SpeechObjective:
    """CTC on characters. A phoneme for every step, known because the speech is made, gets it off the ground: without
    it CTC spends most of so short a run on learning to emit anything."""

    def __init__(self, judge: SpeechJudge) -> None:
        self.judge = judge
        self.phonemes = nn.Linear(judge.width, len(PHONEMES))
        self.module: nn.Module = nn.ModuleList([judge, self.phonemes])

    def __call__(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.judge.hidden(batch.mels)
        steps = self.judge.characters(hidden).float().log_softmax(-1).transpose(0, 1)  # (T, B, 29)
        ctc = F.ctc_loss(steps, batch.characters, batch.num_steps, batch.num_characters, BLANK, zero_infinity=True)
        phoneme = F.cross_entropy(
            self.phonemes(hidden).float().flatten(0, 1), batch.phonemes.flatten(), ignore_index=_IGNORED
        )
        return ctc + phoneme, {"ctc": ctc, "phoneme": phoneme}

    def num_items(self, batch: SpeechBatch) -> int:
        return len(batch.mels)


def speech_batch(step: int) -> SpeechBatch:
    """Sentences nobody will be examined on, by anyone, in four languages; two thirds of them in some room."""
    group = np.random.default_rng((SEED, step // _GROUP))
    sentences = sorted((something_said(group) for _ in range(_GROUP * SPEECH_BATCH)), key=lambda said: len(said.text))
    rng = np.random.default_rng((SEED, step // _GROUP, step % _GROUP))
    synthesizer = Synthesizer()
    clips, phonemes, texts = [], [], []
    for text, language in sentences[step % _GROUP * SPEECH_BATCH :][:SPEECH_BATCH]:
        speaker = translations.speaking(speech.random_speaker(rng, split="train"), language)
        utterance = synthesizer.speak(text, speaker)
        if rng.random() < 2 / 3:
            utterance = in_room(utterance, rng, level=0.8 * rng.random())
        mels = judges.log_mel(utterance.audio.waveform)
        num_steps = -(-len(mels) // judges.FRAMES_PER_STEP)
        starts_ms = [phoneme.start_ms for phoneme in utterance.phonemes]
        sounding = np.searchsorted(starts_ms, np.arange(num_steps) * _STEP_MS + 1.0, side="right") - 1
        names = [PHONEMES.index(phoneme.phoneme) for phoneme in utterance.phonemes]
        clips.append(smeared(mels, rng))
        if language != "english":  # the table of phonemes is that of English
            names = [_IGNORED] * len(names)
        phonemes.append(torch.tensor(names)[torch.from_numpy(np.maximum(sounding, 0))])
        texts.append(judges.spelling(unaccented(normalized(text))))
    return SpeechBatch(
        mels=nn.utils.rnn.pad_sequence(clips, batch_first=True),
        num_steps=torch.tensor([len(steps) for steps in phonemes]),
        characters=torch.tensor([character for text in texts for character in text]),
        num_characters=torch.tensor([len(text) for text in texts]),
        phonemes=nn.utils.rnn.pad_sequence(phonemes, batch_first=True, padding_value=_IGNORED),
    )


class Said(NamedTuple):
    text: str
    language: Language


def something_said(rng: np.random.Generator) -> Said:
    if rng.random() >= _FOREIGN_SHARE:
        return Said(dialogues.sentence(rng, "train"), "english")
    language = dialogues.pick(rng, LANGUAGES)
    return Said(translations.phrase(rng, "train")[language], language)


def smeared(mels: Tensor, rng: np.random.Generator) -> Tensor:
    """A spectrum as a codec might leave it: blurred over time and bands, noisy, with holes. (T, 80) -> (T, 80)."""
    mels = blurred(mels, rng)
    for _ in range(int(rng.integers(3))):
        low = int(rng.integers(mels.shape[1] - 12))
        mels[:, low : low + int(rng.integers(1, 13))] = 0.0
    for _ in range(int(rng.integers(3))):
        start = int(rng.integers(max(1, len(mels) - 8)))
        mels[start : start + int(rng.integers(1, 9))] = 0.0
    return mels


def blurred(mels: Tensor, rng: np.random.Generator) -> Tensor:
    """A spectrum blurred over time and bands, half of the time, and noisy. (T, 80) -> (T, 80), another one."""
    mels = mels.clone()
    if rng.random() < 0.5:
        for axis, most in ((0, 0.3), (1, 0.3)):
            share = most * rng.random()
            neighbours = torch.roll(mels, 1, axis) + torch.roll(mels, -1, axis)
            mels = (1 - share) * mels + share / 2 * neighbours
    mels += 0.35 * rng.random() * torch.from_numpy(rng.standard_normal(mels.shape, dtype=np.float32))
    return mels


def domain_words() -> list[str]:
    """Every word that the training sentences and the phrases of all languages use, single letters included."""
    rng = np.random.default_rng((SEED, 0))
    spoken = [normalized(dialogues.sentence(rng, "train")) for _ in range(4000)]
    spoken += [unaccented(normalized(text)) for phrase in translations.every_phrase() for text in phrase.values()]
    return sorted({*(word for sentence in spoken for word in sentence.split()), *dialogues.free_words()})


def speech_figures(judge: SpeechJudge, *, count: int = 200) -> dict[str, Any]:
    """Word error rates on held-out sentences: clean, by the presets, which is what it must judge; by strangers; and of
    phrases in each language by the presets."""
    rng = np.random.default_rng((SEED, 1))
    synthesizer = Synthesizer()
    figures: dict[str, Any] = {}
    for name in ("presets", "unseen_voices"):
        scores: list[Score] = []
        for index in range(count):
            sentence = dialogues.sentence(rng, "heldout")
            preset = tuple(PRESETS.values())[index % len(PRESETS)]
            speaker = preset if name == "presets" else speech.random_speaker(rng, split="heldout")
            scores.append(word_error_rate(sentence, judge.transcribe(synthesizer.speak(sentence, speaker).audio)))
        figures[f"wer_{name}"] = estimate(scores)._asdict()
    for language in LANGUAGES:
        scores = []
        for index in range(count // 2):
            phrase = translations.phrase(rng, "heldout")[language]
            speaker = translations.speaking(tuple(PRESETS.values())[index % len(PRESETS)], language)
            heard = judge.transcribe(synthesizer.speak(phrase, speaker).audio)
            scores.append(word_error_rate(unaccented(normalized(phrase)), heard))
        figures[f"wer_{language}"] = estimate(scores)._asdict()
    return figures


def train_speech(out: Path, *, num_steps: int = SPEECH_STEPS) -> dict[str, Any]:
    torch.manual_seed(SEED)
    judge = SpeechJudge(words=domain_words())
    objective = SpeechObjective(judge)
    optimizer = MuonAdamW(tokenizer_groups(objective.module, lr=3e-3))
    config = TrainConfig(num_steps=num_steps, warmup_steps=100, seed=SEED)
    fit(objective, speech_batch, optimizer, config, out / "speech", title="speech judge")
    return _finished(judge.eval(), out / "speech", {"heldout": speech_figures(judge)}, num_steps)


# --- styles

STYLE_STEPS, STYLE_BATCH = 500, 24
MANNERS: tuple[Style | None, ...] = (None, *STYLES)
AS_USUAL = "as usual"


class NamingBatch(NamedTuple):
    inputs: tuple[Tensor, ...]  # what the judge takes, (B, ..) each
    names: Tensor  # (B,)


class NamingObjective:
    """To tell which of its names fits: that of a manner, or of a drawn thing."""

    def __init__(self, judge: StyleJudge | IconJudge) -> None:
        self.module: nn.Module = judge

    def __call__(self, batch: NamingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = F.cross_entropy(self.module(*batch.inputs).float(), batch.names)
        return loss, {"name": loss}

    def num_items(self, batch: NamingBatch) -> int:
        return len(batch.names)


def in_manner(synthesizer: Synthesizer, text: str, speaker: speech.Speaker, style: Style | None) -> Audio:
    said = styles.speak(synthesizer, text, speaker, style) if style else synthesizer.speak(text, speaker)
    return said.audio


def style_batch(step: int) -> NamingBatch:
    """Two thirds by the presets, whom it must judge; a little louder or softer than they are, blurred and noisy."""
    rng = np.random.default_rng((SEED + 1, step))
    synthesizer = Synthesizer()
    clips, named = [], []
    for _ in range(STYLE_BATCH):
        presets = tuple(PRESETS.values())
        speaker = dialogues.pick(rng, presets) if rng.random() < 2 / 3 else speech.random_speaker(rng, split="train")
        named.append(int(rng.integers(len(MANNERS))))
        audio = in_manner(synthesizer, dialogues.sentence(rng, "train"), speaker, MANNERS[named[-1]])
        gain = np.float32(10 ** (rng.normal(0.0, 1.0) / 20))
        clips.append(blurred(judges.loud_mel(audio.waveform * gain), rng))
    mels = nn.utils.rnn.pad_sequence(clips, batch_first=True)  # (B, T, 80)
    num_steps = torch.tensor([-(-len(clip) // judges.FRAMES_PER_STEP) for clip in clips])
    return NamingBatch((mels, num_steps), torch.tensor(named))


def style_figures(judge: StyleJudge, *, count: int = 60) -> dict[str, Any]:
    """How often it names the style of held-out sentences by the presets, each style as often as the others."""
    rng = np.random.default_rng((SEED + 1, 1))
    synthesizer = Synthesizer()
    figures: dict[str, Any] = {}
    for style in MANNERS:
        right: list[Score] = []
        for index in range(count):
            preset = tuple(PRESETS.values())[index % len(PRESETS)]
            audio = in_manner(synthesizer, dialogues.sentence(rng, "heldout"), preset, style)
            right.append(Score(float(judge.manner(audio) == (style or AS_USUAL))))
        figures[f"right_{style or AS_USUAL}"] = estimate(right)._asdict()
    return figures


def train_style(out: Path, *, num_steps: int = STYLE_STEPS) -> dict[str, Any]:
    torch.manual_seed(SEED)
    judge = StyleJudge(styles=[style or AS_USUAL for style in MANNERS])
    _fit(NamingObjective(judge), style_batch, out / "style", num_steps)
    return _finished(judge.eval(), out / "style", {"heldout": style_figures(judge)}, num_steps)


# --- scenes

SCENE_STEPS, SCENE_BATCH = 1200, 64


class SceneBatch(NamedTuple):
    pixels: Tensor  # (B, 3, 64, 64) in 0 .. 1
    targets: CellTargets


class SceneObjective:
    """Whether a cell holds a centre; and where it does, which shape, which colour, and where exactly."""

    def __init__(self, judge: SceneJudge) -> None:
        self.module: nn.Module = judge

    def __call__(self, batch: SceneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        presence, shape, colour, place = self.module(batch.pixels)
        is_centre = batch.targets.shape >= 0
        parts = {
            "presence": F.binary_cross_entropy_with_logits(presence.float(), is_centre.float()) * 10,
            "shape": F.cross_entropy(shape[is_centre].float(), batch.targets.shape[is_centre]),
            "colour": F.cross_entropy(colour[is_centre].float(), batch.targets.colour[is_centre]),
            "place": F.mse_loss(place[is_centre].float(), batch.targets.place[is_centre]) * 5,
        }
        return torch.stack(list(parts.values())).sum(), parts

    def num_items(self, batch: SceneBatch) -> int:
        return len(batch.pixels)


def scene_batch(step: int, judge: SceneJudge) -> SceneBatch:
    rng = np.random.default_rng((SEED, step))
    scenes = [scene(rng, split="train") for _ in range(SCENE_BATCH)]
    return SceneBatch(
        spoiled(as_tensor(scenes), torch.Generator().manual_seed(SEED + step)),
        judge.targets([objects_of(item) for item in scenes]),
    )


def as_tensor(pictures: Sequence[Scene | IconPicture | EmojiPicture]) -> Tensor:
    """(B, 3, 64, 64) in 0 .. 1"""
    return torch.from_numpy(np.stack([picture.pixels for picture in pictures])).permute(0, 3, 1, 2).float() / 255.0


def as_bytes(pictures: Tensor) -> np.ndarray:
    """(B, 3, 64, 64) in 0 .. 1 -> (B, 64, 64, 3) uint8"""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()


def objects_of(drawn: Scene) -> list[SeenObject]:
    return [SeenObject(item.colour, item.shape, item.x, item.y, item.radius) for item in drawn.objects]


def spoiled(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a small tokenizer might leave them: wobbly outlines, blur, blocks, wrong tints, noise."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    count, _, height, width = pixels.shape
    strength = draw(count, 1, 1, 1)
    bent = warped(pixels, 0.08 * strength, generator, cells=8)
    blurred = F.avg_pool2d(F.pad(bent, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blocky = F.interpolate(F.avg_pool2d(bent, 2), scale_factor=2.0, mode="bilinear")
    kind = draw(count, 1, 1, 1)
    spoiled_pixels = torch.where(kind < 0.4, bent, torch.where(kind < 0.7, blurred, blocky))
    tint = 0.06 * strength * (draw(count, 3, 1, 1) - 0.5)
    noise = 0.12 * strength * (draw(count, 3, height, width) - 0.5)
    return (spoiled_pixels + tint + noise).clamp(0.0, 1.0)


def warped(pixels: Tensor, amount: Tensor | float, generator: torch.Generator, *, cells: int) -> Tensor:
    """Pictures (B, 3, H, W) pulled about by smooth noise of so many cells a side."""
    count, _, height, width = pixels.shape
    grid = F.affine_grid(torch.eye(2, 3).expand(count, 2, 3), [count, 3, height, width], align_corners=False)
    noise = torch.rand(count, 2, cells, cells, generator=generator) - 0.5
    flow = F.interpolate(noise, size=(height, width), mode="bicubic").permute(0, 2, 3, 1)  # (B, H, W, 2)
    return F.grid_sample(pixels, grid + amount * flow, padding_mode="border", align_corners=False)


def scene_figures(judge: SceneJudge, *, count: int = 1000) -> dict[str, Any]:
    """How often all objects of a held-out scene are named right, in clean pictures and in spoiled ones."""
    rng = np.random.default_rng((SEED, 1))
    scenes = [scene(rng, split="heldout") for _ in range(count)]

    def judged(index: int, picture: Image) -> Judged:
        seen = judge.see(picture)
        wanted = Counter((item.colour, item.shape) for item in scenes[index].objects)
        return Judged(Counter((item.colour, item.shape) for item in seen.objects) == wanted, seen.is_sure)

    return clean_and_spoiled(as_tensor(scenes), judged)


class Judged(NamedTuple):
    is_right: bool
    is_sure: bool


def clean_and_spoiled(pixels: Tensor, judged: Callable[[int, Image], Judged]) -> dict[str, Any]:
    """How often pictures (B, 3, 64, 64) are judged right, clean and spoiled: of all, and where the judge is sure."""
    figures: dict[str, Any] = {}
    for name, pictures in (("clean", pixels), ("spoiled", spoiled(pixels, torch.Generator().manual_seed(SEED)))):
        outcomes = [judged(index, Image(pixels=picture)) for index, picture in enumerate(as_bytes(pictures))]
        sure = [outcome for outcome in outcomes if outcome.is_sure]
        for about, chosen in ((f"right_{name}", outcomes), (f"right_where_sure_{name}", sure)):
            figures[about] = estimate([Score(float(outcome.is_right)) for outcome in chosen])._asdict()
    return figures


def train_scene(out: Path, *, num_steps: int = SCENE_STEPS) -> dict[str, Any]:
    torch.manual_seed(SEED)
    judge = SceneJudge(shapes=tuple(SHAPES), colours=tuple(COLOURS))
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - twice as fast in bf16
    _fit(SceneObjective(judge), lambda step: scene_batch(step, judge), out / "scene", num_steps)
    return _finished(judge.eval(), out / "scene", {"heldout": scene_figures(judge)}, num_steps)


# --- icons

ICON_STEPS, ICON_BATCH = 1500, 64
_RUINED = ICON_BATCH // 5
_CLOCKS = 0.35  # of the icons: one kind in 25, but twelve names in 36


def drawn_names() -> tuple[str, ...]:
    """What a drawing of one thing can show: "star", "star emoji", or nothing of the kind."""
    return (*icon_names(), *(f"{name} emoji" for name in characters()), NOTHING)


def icon_batch(step: int, judge: IconJudge) -> NamingBatch:
    """Icons and emoji as often, and pictures that show nothing: wrecked ones, scenes."""
    rng = np.random.default_rng((SEED + 2, step))
    generator = torch.Generator().manual_seed(SEED + 2 + step)
    kinds = ["clock" if rng.random() < _CLOCKS else None for _ in range(ICON_BATCH // 2)]
    icons = [icon_picture(rng, split="train", kind=kind) for kind in kinds]
    looks: list[Look | None] = [DRAWN_LOOK if rng.random() < 0.5 else None for _ in icons]
    emoji = [emoji_picture(rng, split="train", look=look) for look in looks]
    pixels = spoiled(torch.cat([as_tensor(icons), as_tensor(emoji)]), generator)
    names = [*(picture.name for picture in icons), *(f"{picture.name} emoji" for picture in emoji)]
    wrecks = torch.randperm(ICON_BATCH, generator=generator)[:_RUINED]
    pixels[wrecks] = wrecked(pixels, wrecks, rng, generator)
    for index in wrecks.tolist():
        names[index] = NOTHING
    return NamingBatch((pixels,), torch.tensor([judge.icons.index(name) for name in names]))


def wrecked(pixels: Tensor, chosen: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """What is left of some of the pictures (B, 3, 64, 64) where a drawing failed: half of it and half of another, its
    quarters changed about, so warped that nobody knows it; or a scene. (chosen, 3, 64, 64)"""
    wrecks = pixels[chosen]
    others = pixels[torch.randperm(len(pixels), generator=generator)[: len(chosen)]]
    for index in range(len(wrecks)):
        kind = rng.integers(4)
        if kind == 0:
            mask = F.interpolate(torch.rand(1, 1, 4, 4, generator=generator), size=(64, 64), mode="bicubic")[0]
            wrecks[index] = torch.where(mask > mask.median(), wrecks[index], others[index])
        elif kind == 1:
            wrecks[index] = torch.roll(wrecks[index], (32, 32), (1, 2))
        elif kind == 2:
            bent = warped(wrecks[index : index + 1], 1.2, generator, cells=5)
            wrecks[index] = F.avg_pool2d(bent, 5, stride=1, padding=2, count_include_pad=False)[0]
        else:
            wrecks[index] = as_tensor([several_shapes(rng)])[0]
    return wrecks


def several_shapes(rng: np.random.Generator) -> Scene:
    """A single one may be the star or the heart that there is as an icon."""
    while len((shown := scene(rng, split="train")).objects) == 1:
        pass
    return shown


def icon_figures(judge: IconJudge, *, count: int = 600) -> dict[str, Any]:
    """How often it names icons and emoji in the look that is drawn, in colours and on grounds that it never saw them
    in, clean and spoiled: of all, and of those that it is sure of; and how often it names none in wrecks of them."""
    rng = np.random.default_rng((SEED + 2, 1))
    icons = [icon_picture(rng, split="heldout", style="flat") for _ in range(count)]
    emoji = [emoji_picture(rng, split="heldout", look=DRAWN_LOOK) for _ in range(count)]
    clocks = [icon_picture(rng, split="heldout", style="flat", kind="clock") for _ in range(count // 2)]

    def right(kind: str, shown: Sequence[IconPicture | EmojiPicture], suffix: str = "") -> dict[str, Any]:
        def judged(index: int, picture: Image) -> Judged:
            name = judge.name(picture)
            return Judged(name == shown[index].name + suffix, name is not None)

        return {kind + name: score for name, score in clean_and_spoiled(as_tensor(shown), judged).items()}

    figures = right("", icons) | right("emoji_", emoji, " emoji") | right("clock_", clocks)
    pixels, generator = torch.cat([as_tensor(icons), as_tensor(emoji)]), torch.Generator().manual_seed(SEED)
    ruins = as_bytes(wrecked(pixels, torch.arange(0, 2 * count, 4), rng, generator))
    none_named = [Score(float(judge.name(Image(pixels=ruin)) in (None, NOTHING))) for ruin in ruins]
    return {**figures, "none_in_wrecks": estimate(none_named)._asdict()}


def train_icon(out: Path, *, num_steps: int = ICON_STEPS) -> dict[str, Any]:
    torch.manual_seed(SEED)
    judge = IconJudge(icons=drawn_names())
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - twice as fast in bf16
    _fit(NamingObjective(judge), lambda step: icon_batch(step, judge), out / "icon", num_steps)
    return _finished(judge.eval(), out / "icon", {"heldout": icon_figures(judge)}, num_steps)


def _fit(objective: Objective[Any], batch_of: Callable[[int], Any], path: Path, num_steps: int) -> None:
    optimizer = MuonAdamW(tokenizer_groups(objective.module, lr=3e-3))
    config = TrainConfig(num_steps=num_steps, seed=SEED)
    fit(objective, batch_of, optimizer, config, path, title=f"{path.name} judge")


def _finished(judge: judges.AnyJudge, path: Path, record: dict[str, Any], num_steps: int) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in judge.parameters())
    record = {"parameters": parameters, "num_steps": num_steps, "seed": SEED, **record}
    judges.save(judge, path, record)
    return record


TRAINERS = {"speech": train_speech, "scene": train_scene, "style": train_style, "icon": train_icon}


def main(out: Path = OUT, *, only: str | None = None) -> None:
    torch.set_num_threads(1)
    for name, train in TRAINERS.items():
        if only in (None, name):
            started = time.monotonic()
            record = train(out)
            print(f"{name} judge, {time.monotonic() - started:.0f} s: {record['heldout']}")
            (out / "README.md").write_text(judges.card(out), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", choices=tuple(TRAINERS))
    options = parser.parse_args()
    main(options.out, only=options.only)
