from __future__ import annotations

import pytest

from sensorium.engine.grammar import Alphabet
from sensorium.engine.runner import Runner
from sensorium.tokenizers.release import Release
from tests.networks import random_release


@pytest.fixture(scope="session")
def release() -> Release:
    return random_release()


@pytest.fixture(scope="session")
def runner(release: Release) -> Runner:
    return Runner(release.model)


@pytest.fixture(scope="session")
def crisp_release() -> Release:
    """Its patches have residual codes, and its speech decoder looks a frame ahead."""
    return random_release(num_image_residuals=3, lookahead_frames=1)


@pytest.fixture(scope="session")
def alphabet(release: Release) -> Alphabet:
    return Alphabet(
        vocabulary=release.vocabulary,
        num_text_tokens=release.text.num_tokens,
        num_patches=release.config.image.num_patches,
        first_tokens=release.config.render.first_tokens,
    )
