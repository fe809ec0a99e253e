"""Which directions of the codec's features tell speakers apart: fits them, and measures them on speakers never heard.

    python -m recipes.speakers --checkpoint DIR [--speakers 300] [--pairs 200] [--measure-only]

Writes `speakers.safetensors` into the checkpoint's folder. Two figures, both with held-out voices and sentences: the
equal error rate of "is that the same speaker", and how many segments of generated dialogues of two speakers, six
turns each, get the right one of two names, when nobody says that there are two. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from sensorium.data.generators.dialogues import sentence
from sensorium.data.generators.speech import Speaker, Split, Synthesizer, in_room, random_speaker
from sensorium.server.speakers import Speakers
from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.tokenizers.release import SPEAKERS, Release
from sensorium.tokenizers.speakers import SpeakerSpace, mean_voice

NUM_SPEAKERS = 300
SIZE = 24
STRETCHES = 5  # of each speaker
TURNS = 6


def heard(
    codec: AudioTokenizer, rng: np.random.Generator, synthesizer: Synthesizer, speaker: Speaker, split: Split
) -> np.ndarray:
    """(D,) of one sentence of a speaker's, in a room of its own."""
    said = in_room(synthesizer.speak(sentence(rng, split), speaker).audio, rng, level=0.5 * rng.random())
    size = codec.config.frame_size
    waveform = np.pad(said.waveform, (0, -len(said.waveform) % size)).astype(np.float32)
    frames, _ = codec.encode(torch.from_numpy(waveform).unsqueeze(0))
    return mean_voice(frames.features[0].numpy(), waveform)


def fit(codec: AudioTokenizer, num_speakers: int) -> SpeakerSpace:
    rng, synthesizer = np.random.default_rng(11), Synthesizer()
    voices, whose = [], []
    for number in range(num_speakers):
        speaker = random_speaker(rng, split="train")
        for _ in range(STRETCHES):
            voices.append(heard(codec, rng, synthesizer, speaker, "train"))
            whose.append(number)
    return SpeakerSpace.fit(np.stack(voices), np.array(whose), size=SIZE)


def measure(codec: AudioTokenizer, space: SpeakerSpace, num_pairs: int) -> dict[str, float]:
    rng, synthesizer = np.random.default_rng(12), Synthesizer()
    same, other, right, chance, num_named = [], [], [], [], []
    for _ in range(num_pairs):
        pair = [random_speaker(rng, split="heldout") for _ in range(2)]
        turns = [0, 1, *rng.integers(0, 2, TURNS - 2)]
        voices = [space.voice(heard(codec, rng, synthesizer, pair[turn], "heldout")) for turn in turns]
        unit = np.stack([voice / np.linalg.norm(voice) for voice in voices])
        for one in range(TURNS):
            for two in range(one):
                (same if turns[one] == turns[two] else other).append(1.0 - unit[one] @ unit[two])
        speakers = Speakers()
        names = [speakers.name(voice) for voice in voices]
        num_named.append(len(set(names)))
        right.append(_share_right(names, turns))
        chance.append(_share_right([str(at) for at in rng.integers(0, 2, TURNS)], turns))
    distances = np.array([*same, *other])
    order = np.argsort(distances)
    is_same = np.arange(len(distances)) < len(same)
    missed = 1.0 - np.cumsum(is_same[order]) / len(same)
    mistaken = np.cumsum(~is_same[order]) / len(other)
    at = int(np.argmin(np.abs(missed - mistaken)))
    return {
        "equal_error_rate": round(float(missed[at] + mistaken[at]) / 2, 3),
        "distance_there": round(float(distances[order][at]), 3),
        "turns_right": round(float(np.mean(right)), 3),
        "turns_right_stderr": round(float(np.std(right) / np.sqrt(num_pairs)), 3),
        "turns_right_by_chance": round(float(np.mean(chance)), 3),
        "two_speakers_found": round(float(np.mean(np.array(num_named) == 2)), 3),
    }


def _share_right(names: list[str], turns: list[int]) -> float:
    """Of the turns, with the names given to the two speakers as well as they can be."""
    found = [*dict.fromkeys(names), "-"]
    pairs = permutations(found, 2)
    return max(sum(pair[turn] == name for name, turn in zip(names, turns, strict=True)) for pair in pairs) / len(turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("sensorium/checkpoints/nano"))
    parser.add_argument("--speakers", type=int, default=NUM_SPEAKERS)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--measure-only", action="store_true", help="of the speakers.safetensors that is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    release = Release.load(options.checkpoint)
    space = release.speakers if options.measure_only else fit(release.audio_tokenizer, options.speakers)
    if space is None:
        parser.error(f"{options.checkpoint} has no {SPEAKERS}")
    if not options.measure_only:
        space.save(options.checkpoint / SPEAKERS)
    print(json.dumps({"recipe": "speakers", **measure(release.audio_tokenizer, space, options.pairs)}))


if __name__ == "__main__":
    main()
