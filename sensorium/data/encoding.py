"""Documents' media through the tokenizers, once: what the network trains on.

    encoded-train/shard-00000/   audio_starts.npy  audio_codes.npy  audio_features.npy
                                 image_codes.npy  image_features.npy  frame_features.npy

A shard's folder appears complete or not at all, so that a run that was stopped goes on with the missing ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from sensorium.data.corpus import read_lines, whole
from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.tokenizers.image import ImageTokenizer, coarsened
from sensorium.tokenizers.render import FRAME_STRIDE

BATCH = 64


@torch.inference_mode()
def encode_documents(
    documents: Sequence[Path],
    out: Path,
    *,
    audio: AudioTokenizer,
    image: ImageTokenizer,
    device: str,
    rank: int = 0,
    num_ranks: int = 1,
) -> list[Path]:
    """The media of every shard as codes and features, in a folder of its name in `out`; rank r makes every n-th."""
    audio, image = audio.to(device).eval(), image.to(device).eval()
    folders = [out / shard.name for shard in documents]
    pairs = list(zip(documents, folders, strict=True))[rank::num_ranks]  # by number: others are at work meanwhile
    missing = [(shard, folder) for shard, folder in pairs if not folder.exists()]
    for shard, folder in track(missing, description="encode", disable=not missing or rank > 0):
        with whole(folder) as beside:
            _encode_clips(shard, beside, audio, device)
            _encode_images(shard, beside, image, device)
            _encode_frames(shard, beside, image, device)
    audio.cpu()
    image.cpu()
    return folders


def _encode_clips(shard: Path, folder: Path, tokenizer: AudioTokenizer, device: str) -> None:
    config = tokenizer.config
    clips = read_lines(shard / "clips.jsonl")
    sound = np.load(shard / "audio.npy", mmap_mode="r") if clips else np.zeros(0, dtype=np.int16)
    ends = np.cumsum([0, *(clip["samples"] for clip in clips)])
    frames = [-(-clip["samples"] // config.frame_size) for clip in clips]
    starts = np.cumsum([0, *frames])
    codes = np.zeros((starts[-1], 1 + config.num_acoustic), dtype=np.uint16)
    features = np.zeros((starts[-1], config.size), dtype=np.float16)
    by_length = np.argsort(frames, kind="stable")
    for rows in (by_length[at : at + BATCH] for at in range(0, len(clips), BATCH)):
        longest = max(frames[row] for row in rows)
        batch = np.zeros((len(rows), longest * config.frame_size), dtype=np.float32)
        for index, row in enumerate(rows):
            batch[index, : clips[row]["samples"]] = sound[ends[row] : ends[row + 1]] / np.float32(32768.0)
        made, _ = tokenizer.encode(torch.from_numpy(batch).to(device))
        for index, row in enumerate(rows):
            codes[starts[row] : starts[row + 1]] = made.codes[index, : frames[row]].cpu().numpy()
            features[starts[row] : starts[row + 1]] = made.features[index, : frames[row]].cpu().numpy()
    np.save(folder / "audio_starts.npy", starts)
    np.save(folder / "audio_codes.npy", codes)
    np.save(folder / "audio_features.npy", features)


def _encode_images(shard: Path, folder: Path, tokenizer: ImageTokenizer, device: str) -> None:
    config, path = tokenizer.config, shard / "images.npy"
    size = config.image_size
    images = np.load(path, mmap_mode="r") if path.exists() else np.zeros((0, size, size, 3), dtype=np.uint8)
    codes = np.zeros((len(images), config.num_patches, 1 + config.num_residuals), dtype=np.uint16)
    features = np.zeros((len(images), config.num_patches, config.feature_size), dtype=np.float16)
    for at in range(0, len(images), BATCH):
        made = tokenizer.encode(torch.from_numpy(images[at : at + BATCH].copy()).to(device))
        codes[at : at + BATCH] = made.codes.cpu().numpy()
        features[at : at + BATCH] = made.features.cpu().numpy()
    np.save(folder / "image_codes.npy", codes)
    np.save(folder / "image_features.npy", features)


def _encode_frames(shard: Path, folder: Path, tokenizer: ImageTokenizer, device: str) -> None:
    """Frames of films: features at half the grid, and no codes."""
    config, path = tokenizer.config, shard / "frames.npy"
    if not path.exists():
        return
    frames = np.load(path, mmap_mode="r")
    shape = (len(frames), config.num_patches // FRAME_STRIDE**2, config.feature_size)
    features = np.zeros(shape, dtype=np.float16)
    for at in range(0, len(frames), BATCH):
        made = tokenizer.encode(torch.from_numpy(frames[at : at + BATCH].copy()).to(device))
        features[at : at + BATCH] = coarsened(made.features, FRAME_STRIDE).cpu().numpy()
    np.save(folder / "frame_features.npy", features)
