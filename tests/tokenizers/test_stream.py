from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.model.config import from_depth
from sensorium.tokenizers.stream import IGNORE_INDEX, OwnCodes, Stream, collate_inputs, collate_labels

CONFIG = from_depth(
    2, vocab_size=256, audio_start=64, image_start=128, num_residuals=7, num_image_residuals=3, feature_size=4
)


def stream_of(length: int, *, first: int = 100) -> Stream:
    """Every third position a spoken frame, every third a drawn patch beside a heard feature."""
    stream = Stream()
    for position in range(length):
        stream.add(first + position, weight=float(position % 2))
        if position % 3 == 1:
            stream.frames.append((position, np.full(7, position)))
            stream.spoken.append(OwnCodes(position - 1, np.full(8, position)))
        if position % 3 == 2:
            stream.patches.append((position, position))
            stream.patch_residuals.append((position, np.full(3, position)))
            stream.drawn.append(OwnCodes(position - 1, np.full(4, position)))
            stream.heard.append((position, np.full(4, position)))
    return stream


def plain(stream: Stream) -> list:
    """A stream as values that compare."""
    contents = (*stream._content(), *stream._own())
    values = [[(at, np.asarray(value).tolist()) for at, value in content] for content in contents]
    return [stream.ids, stream.targets, stream.weights, *values]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(length=st.integers(0, 30), cut=st.integers(0, 30))
def test_parts_put_together_are_the_whole(length: int, cut: int):
    stream = stream_of(length)
    again = stream.part(0, cut)
    again.extend(stream.part(cut, max(cut, length)))
    # the prediction of a frame or patch belongs to the position before it, and may so lie on the other side of the cut
    assert plain(again)[:-2] == plain(stream)[:-2]
    for ours, theirs in zip(plain(again)[-2:], plain(stream)[-2:], strict=True):
        assert sorted(ours) == sorted(theirs)


def test_inputs_of_a_batch_point_at_flat_positions():
    short, long = stream_of(4), stream_of(6, first=200)
    inputs = collate_inputs([short, long], CONFIG)
    assert inputs.ids.tolist() == [[100, 101, 102, 103, 0, 0], [200, 201, 202, 203, 204, 205]]
    assert inputs.frames_at.tolist() == [1, 6 + 1, 6 + 4]
    assert inputs.frames[:, 0].tolist() == [1, 1, 4]
    assert inputs.patches_at.tolist() == inputs.heard_at.tolist() == [2, 6 + 2, 6 + 5]
    assert inputs.patch_residuals_at.tolist() == inputs.patches_at.tolist()
    assert inputs.patch_residuals.tolist() == [[2] * 3, [2] * 3, [5] * 3]
    assert inputs.heard.dtype == torch.float32
    assert inputs.seen.shape == (0, 4)


def test_a_position_is_asked_for_the_target_of_the_next():
    stream = stream_of(4)
    stream.targets[3] = 7
    labels = collate_labels([stream, stream_of(2)], CONFIG)
    assert labels.targets.tolist() == [
        [101, IGNORE_INDEX, 7, IGNORE_INDEX],
        [101, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX],
    ]
    assert labels.weights.tolist() == [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    assert labels.spoken_at.tolist() == [0, 4 + 0]
    assert labels.drawn_at.tolist() == [1]
    assert labels.drawn.tolist() == [[2] * 4]
