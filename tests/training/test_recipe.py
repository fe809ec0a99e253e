"""What a recipe refuses before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recipes.nano import NANO
from sensorium.training.pipeline import check_start
from sensorium.training.recipe import NetworkStage, Phase
from tests.training.toy import TOY

NANO_RELEASE = Path("sensorium/checkpoints/nano")


def test_impossible_phases_are_refused() -> None:
    with pytest.raises(ValueError, match="more than all steps"):
        NetworkStage(phases=(Phase(share=0.6, tasks=("say",)), Phase(share=0.6, tasks=("chat",))))
    with pytest.raises(ValueError, match="sees figure, of which no documents"):
        NetworkStage(phases=(Phase(share=0.1, tasks=("say", "figure")),))


def test_layers_to_keep_must_be_there() -> None:
    with pytest.raises(ValueError, match="frozen_layers needs a release"):
        check_start(replace(TOY, network=replace(TOY.network, frozen_layers=1)))
    network = replace(NANO.network, model={"num_layers": 8})  # as nano was released
    recipe = replace(NANO, start=NANO_RELEASE, keep_tokenizers=True)
    with pytest.raises(ValueError, match="frozen_layers must be 0 to 7, not 8"):
        check_start(replace(recipe, network=replace(network, frozen_layers=8)))
    check_start(replace(recipe, network=replace(network, frozen_layers=7)))
