"""Judges: spelling, targets, disk; that what trains them makes them better; and that the shipped ones are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recipes import judges as recipe
from sensorium.data.generators.emoji import emoji_picture
from sensorium.data.generators.scenes import COLOURS, SHAPES, scene
from sensorium.data.generators.translations import LANGUAGES
from sensorium.evals import judges
from sensorium.evals.judges import BLANK, NOTHING, IconJudge, SceneJudge, SpeechJudge, StyleJudge
from sensorium.evals.scorers import SeenObject, normalized, unaccented
from sensorium.messages import Audio, Image
from sensorium.training.optim import MuonAdamW, tokenizer_groups

SCENES = {"shapes": tuple(SHAPES), "colours": tuple(COLOURS), "width": 8}
SPEECH = {"words": ("one", "two"), "width": 32, "num_blocks": 1, "kernel_size": 5}


def tone(seconds: float, *, rate_hz: int = 16_000, level: float = 0.3) -> Audio:
    times_s = np.arange(int(seconds * rate_hz)) / rate_hz
    waveform = level * np.sin(2 * np.pi * 440 * times_s) * (times_s % 0.2 < 0.1)
    return Audio(waveform=waveform.astype(np.float32), sample_rate_hz=rate_hz)


def test_a_ctc_path_is_spelled_without_repeats_and_blanks():
    path = judges.spelling("hh")
    assert judges.spelled([BLANK, *path, BLANK, *judges.spelling("e  lp"), BLANK]) == "he lp"
    assert judges.spelled([*judges.spelling("l"), BLANK, *judges.spelling("l")]) == "ll"
    assert judges.spelled([]) == ""
    with pytest.raises(ValueError, match="not '5'"):
        judges.spelling("route 5")


def steps_of(text: str, *, doubt: dict[int, str] | None = None) -> np.ndarray:
    """CTC shares that spell `text` with a blank after each character; at a doubted one, another is a bit likelier."""
    steps = np.full((2 * len(text), BLANK + 1), 1e-4)
    for index, character in enumerate(text):
        steps[2 * index, judges.spelling(character)[0]] = 0.4 if index in (doubt or {}) else 0.9
        steps[2 * index + 1, BLANK] = 0.9
    for index, character in (doubt or {}).items():
        steps[2 * index, judges.spelling(character)[0]] = 0.5
    return steps / steps.sum(1, keepdims=True)


def test_with_a_lexicon_the_judge_hears_words():
    words = judges.lexicon(["eight", "eighteen", "dark", "a", "all"])
    assert judges.in_words(steps_of("eight all"), words) == "eight all"
    assert judges.in_words(steps_of("eighteen"), words) == "eighteen"
    misheard = steps_of("eight dark", doubt={3: "e", 7: "e"})
    assert judges.spelled(misheard.argmax(1).tolist()) == "eiget derk"
    assert judges.in_words(misheard, words) == "eight dark"
    assert judges.in_words(steps_of(""), words) == ""
    assert judges.in_words(steps_of("   "), words) == ""


def test_a_word_that_is_cut_off_is_heard_as_far_as_it_goes():
    assert judges.in_words(steps_of("da"), judges.lexicon(["dark"])) == "da"


def test_a_spectrum_has_a_frame_every_ten_ms_and_no_loudness():
    loud, quiet = (judges.log_mel(tone(1.0, level=level).waveform) for level in (0.8, 0.05))
    assert loud.shape == (101, 80)
    assert torch.allclose(loud, quiet, atol=0.02)
    assert torch.isfinite(judges.log_mel(np.zeros(1600, np.float32))).all()
    assert judges.log_mel(np.zeros(3, np.float32)).shape[1] == 80


def test_the_speech_judge_hears_clips_of_any_rate_and_length():
    judge = SpeechJudge(**SPEECH).eval()
    for clip in (tone(0.5), tone(0.5, rate_hz=24_000), tone(0.001)):
        assert set(judge.transcribe(clip)) <= set(judges.CHARACTERS)
    assert judge.transcribe(Audio(waveform=np.zeros(0, np.float32), sample_rate_hz=16_000)) == ""


@pytest.mark.parametrize("kind", [SpeechJudge, SceneJudge])
def test_a_judge_comes_back_from_disk(tmp_path: Path, kind: type[SpeechJudge] | type[SceneJudge]):
    judge = kind(**SPEECH) if kind is SpeechJudge else kind(**SCENES)  # pyright: ignore[reportCallIssue]
    judges.save(judge, tmp_path / "judge", {"heldout": {"n": 3}})
    again, record = judges.load(kind, tmp_path / "judge")
    assert record == {"heldout": {"n": 3}}
    assert again.config == judge.config
    for name, tensor in judge.state_dict().items():
        assert torch.allclose(again.state_dict()[name], tensor, rtol=1e-2)
    with pytest.raises(ValueError, match="train it with"):
        judges.load(kind, tmp_path / "nothing")


def test_the_shipped_judges_know_what_they_judge():
    """As their cards say, on the first of the same held-out material."""
    speech, known = judges.load(SpeechJudge, judges.SHIPPED / "speech")
    heard = recipe.speech_figures(speech, count=20)
    assert heard["wer_presets"]["mean"] < 0.15
    assert heard.keys() == known["heldout"].keys()
    scenes = recipe.scene_figures(judges.load(SceneJudge, judges.SHIPPED / "scene")[0], count=40)
    assert scenes["right_spoiled"]["mean"] > 0.9
    icons = recipe.icon_figures(judges.load(IconJudge, judges.SHIPPED / "icon")[0], count=40)
    assert icons["right_clean"]["mean"] > 0.85
    assert icons["emoji_right_clean"]["mean"] > 0.85
    assert icons["none_in_wrecks"]["mean"] > 0.8
    styles = recipe.style_figures(judges.load(StyleJudge, judges.SHIPPED / "style")[0], count=8)
    assert sum(figure["mean"] for figure in styles.values()) / len(styles) > 0.85


def test_the_card_of_the_shipped_judges_is_that_of_their_records():
    card = judges.card(judges.SHIPPED)
    assert (judges.SHIPPED / "README.md").read_text("utf-8") == card
    assert all(f"\n## {name}\n" in card for name in recipe.TRAINERS)


def test_targets_lie_in_the_cell_of_the_centre():
    judge = SceneJudge(**SCENES)
    targets = judge.targets([[SeenObject("red", "star", 0.3, 0.99, 0.1)], []])
    assert (targets.shape >= 0).nonzero().tolist() == [[0, 7, 2]]
    assert targets.colour[0, 7, 2] == tuple(COLOURS).index("red")
    assert targets.place[0, 7, 2].tolist() == pytest.approx([0.4, 0.92, 0.1], abs=1e-5)


def test_a_centre_between_two_cells_is_one_object():
    judge = SceneJudge(**SCENES).eval()

    class Torn(nn.Module):
        """Half a claim in each of two neighbouring cells: nobody has the majority, together they are sure."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            cells = torch.full((1, 1 + len(SHAPES) + len(COLOURS) + 3, 8, 8), -9.0)
            cells[0, 0, 3, 3:5] = torch.tensor([0.0, -0.05])
            cells[0, 1, 3, 3:5] = cells[0, 1 + len(SHAPES), 3, 3:5] = 9.0
            return cells

    judge.layers = Torn()  # pyright: ignore[reportAttributeAccessIssue]
    seen = judge.see(Image(pixels=np.zeros((128, 128, 3), np.uint8)))
    assert [(item.colour, item.shape) for item in seen.objects] == [(next(iter(COLOURS)), next(iter(SHAPES)))]
    assert seen.is_sure


Objective = recipe.SpeechObjective | recipe.SceneObjective | recipe.NamingObjective


def losses(objective: Objective, batch, *, steps: int) -> tuple[float, float]:
    optimizer = MuonAdamW(tokenizer_groups(objective.module, lr=5e-3))
    history: list[float] = []
    for _ in range(steps):
        loss, _ = objective(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(loss.item())
    return history[0], history[-1]


def test_training_makes_a_speech_judge_better():
    torch.manual_seed(0)
    first, last = losses(recipe.SpeechObjective(SpeechJudge(**SPEECH)), recipe.speech_batch(0), steps=10)
    assert last < 0.8 * first


def test_training_makes_a_scene_judge_better():
    torch.manual_seed(0)
    judge = SceneJudge(**SCENES)
    first, last = losses(recipe.SceneObjective(judge), recipe.scene_batch(0, judge), steps=15)
    assert last < 0.8 * first


def test_the_speech_judge_learns_four_languages():
    rng = np.random.default_rng(0)
    said = [recipe.something_said(rng) for _ in range(200)]
    assert {language for _, language in said} == set(LANGUAGES)
    words = set(recipe.domain_words())
    assert all(word in words for text, _ in said[:50] for word in unaccented(normalized(text)).split())
    assert "weiss" in words


def test_batches_are_a_function_of_the_step():
    one, same, other = recipe.speech_batch(3), recipe.speech_batch(3), recipe.speech_batch(4)
    assert torch.equal(one.mels, same.mels)
    assert torch.equal(one.characters, same.characters)
    assert one.characters.tolist() != other.characters.tolist()
    assert (one.num_steps <= (one.mels.shape[1] + 1) // 2).all()
    assert one.phonemes.shape == (recipe.SPEECH_BATCH, (one.mels.shape[1] + 1) // 2)
    judge = SceneJudge(**SCENES)
    assert torch.equal(recipe.scene_batch(3, judge).pixels, recipe.scene_batch(3, judge).pixels)


def test_spoiled_pictures_stay_pictures():
    pixels = recipe.as_tensor([scene(np.random.default_rng(seed), split="train") for seed in range(4)])
    spoiled = recipe.spoiled(pixels, torch.Generator().manual_seed(0))
    assert spoiled.shape == pixels.shape
    assert 0.0 <= float(spoiled.min()) <= float(spoiled.max()) <= 1.0
    assert float((spoiled - pixels).abs().mean()) < 0.1


def test_wrecked_pictures_stay_pictures_of_nothing():
    pixels = recipe.as_tensor([emoji_picture(np.random.default_rng(seed), split="train") for seed in range(40)])
    chosen = torch.arange(0, 40, 2)
    wrecks = recipe.wrecked(pixels, chosen, np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert wrecks.shape == (20, 3, 64, 64)
    assert 0.0 <= float(wrecks.min()) <= float(wrecks.max()) <= 1.0
    assert float((wrecks - pixels[chosen]).abs().mean((1, 2, 3)).min()) > 0.01, "none is left as it was"
    assert len(recipe.several_shapes(np.random.default_rng(0)).objects) > 1


def test_styles_can_be_learned_and_padding_does_not_matter():
    torch.manual_seed(0)
    judge = StyleJudge(styles=[style or recipe.AS_USUAL for style in recipe.MANNERS], width=32, num_blocks=1)
    batch = recipe.style_batch(0)
    before, after = losses(recipe.NamingObjective(judge), batch, steps=30)
    assert after < 0.5 * before
    judge.eval()
    mels, num_steps = batch.inputs
    row = int(num_steps.argmin())
    alone = judge(mels[row : row + 1, : 2 * int(num_steps[row])], num_steps[row : row + 1])
    together = judge(mels, num_steps)[row]
    assert torch.allclose(alone[0], together, atol=0.1), "a convolution sees a little of the zeros behind"
    assert judge.manner(tone(1.0)) in judge.styles


def test_icons_and_emoji_can_be_learned_and_an_unsure_judge_names_none():
    torch.manual_seed(0)
    judge = IconJudge(icons=recipe.drawn_names(), width=8)
    batch = recipe.icon_batch(0, judge)
    before, after = losses(recipe.NamingObjective(judge), batch, steps=80)
    assert after < 0.5 * before
    judge.eval()
    seen = [judge.name(Image(pixels=pixels)) for pixels in recipe.as_bytes(batch.inputs[0])]
    named = [judge.icons[index] for index in batch.names.tolist()]
    assert sum(one == other for one, other in zip(seen, named, strict=True)) > 10
    assert {"icon", "emoji", NOTHING} == {
        name if name == NOTHING else "emoji" if name.endswith("emoji") else "icon" for name in named
    }
    for parameter in judge.output.parameters():
        nn.init.zeros_(parameter)
    assert judge.name(Image(pixels=np.zeros((32, 48, 3), np.uint8))) is None, "all are as likely"


def test_a_judge_of_styles_is_kept_on_disk(tmp_path: Path):
    judge = StyleJudge(styles=("fast", "slow"), width=16, num_blocks=1)
    judges.save(judge, tmp_path / "style", {"parameters": 3})
    loaded, record = judges.load(StyleJudge, tmp_path / "style")
    assert loaded.styles == judge.styles
    assert record == {"parameters": 3}
