"""What the network would have said and drawn itself: the codes it predicts for its answers in the documents.

    retold-train/shard-00000/   audio_codes.npy  clips.npy  image_codes.npy  images.npy

The codes are laid out as the encoded ones of the shard; `clips` and `images` number the answers among them. Each frame
and patch is predicted from the true ones before it, so an answer and its codes stay in step: the tokenizers' decoders
can learn what the network means by the residual codes it chooses, which are seldom those an encoder would have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from sensorium.data.corpus import whole
from sensorium.data.packing import EncodedDocuments
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import OwnCodes, Stream, collate_inputs

BATCH_POSITIONS = 6144


@dataclass(frozen=True, kw_only=True)
class RetellingConfig:
    num_shards: int = 100  # of the documents; their answers ..
    own_share: float = 0.7  # .. are shown to the decoders this often in the network's own codes, ..
    audio_temperature: float = 0.3  # .. drawn about as the engine draws them
    image_temperature: float = 0.5


@torch.inference_mode()
def retell(
    release: Release,
    documents: Sequence[Path],
    encoded: Sequence[Path],
    out: Path,
    *,
    config: RetellingConfig,
    device: str,
    rank: int = 0,
    num_ranks: int = 1,
) -> list[Path]:
    """The answers of every shard in the network's own residual codes, the first code of each as it was.

    A shard's folder appears complete or not at all; rank r makes every n-th.
    """
    release.model.to(device).eval()
    folders = [out / shard.name for shard in documents]
    jobs = list(zip(documents, encoded, folders, strict=True))[rank::num_ranks]
    missing = [job for job in jobs if not job[-1].exists()]
    for shard, codes, folder in track(missing, description="retell", disable=not missing or rank > 0):
        generator = torch.Generator(device).manual_seed(int(shard.name.rsplit("-", 1)[1]))
        with whole(folder) as beside:
            _Shard(release, shard, codes, config, generator).save(beside)
    release.model.cpu()
    return folders


class _Shard:
    def __init__(
        self, release: Release, documents: Path, encoded: Path, config: RetellingConfig, generator: torch.Generator
    ) -> None:
        self._model = release.model
        self._documents = EncodedDocuments([documents], [encoded])
        self._config, self._generator = config, generator
        self._starts = np.load(encoded / "audio_starts.npy")
        self._audio_codes = np.load(encoded / "audio_codes.npy")
        self._image_codes = np.load(encoded / "image_codes.npy")
        self._clips: list[int] = []
        self._images: list[int] = []
        streams = [release.renderer.document(self._documents.messages(index)) for index in range(len(self._documents))]
        answering = [index for index, stream in enumerate(streams) if stream.spoken or stream.drawn]
        batch: list[int] = []
        for index in sorted(answering, key=lambda index: len(streams[index])):
            length = len(streams[index])
            if length > release.model.config.max_seq_len:
                continue
            if batch and (len(batch) + 1) * length > BATCH_POSITIONS:
                self._retell([(index, streams[index]) for index in batch])
                batch = []
            batch.append(index)
        if batch:
            self._retell([(index, streams[index]) for index in batch])

    def save(self, folder: Path) -> None:
        np.save(folder / "audio_codes.npy", self._audio_codes)
        np.save(folder / "image_codes.npy", self._image_codes)
        np.save(folder / "clips.npy", np.array(sorted(self._clips), dtype=np.int64))
        np.save(folder / "images.npy", np.array(sorted(self._images), dtype=np.int64))

    def _retell(self, batch: Sequence[tuple[int, Stream]]) -> None:
        device = self._generator.device
        inputs = collate_inputs([stream for _, stream in batch], self._model.config)
        hidden = self._model(type(inputs)(*(tensor.to(device) for tensor in inputs)))  # (B, T, C)
        for row, (index, stream) in enumerate(batch):
            clips, images = self._documents.answers(index)
            frames = [frame for clip in clips for frame in range(self._starts[clip], self._starts[clip + 1])]
            if frames:
                self._audio_codes[frames] = self._draw(
                    self._model.depth_head, hidden[row], stream.spoken, self._config.audio_temperature
                )
                self._clips += clips
            if images and self._model.image_depth_head is not None:
                head = self._model.image_depth_head
                codes = self._draw(head, hidden[row], stream.drawn, self._config.image_temperature)
                self._image_codes[images] = codes.reshape(len(images), -1, codes.shape[-1])
                self._images += images

    def _draw(
        self, head: DepthHead | DepthTransformer, hidden: Tensor, own: Sequence[OwnCodes], temperature: float
    ) -> np.ndarray:
        """hidden: (T, C) -> (N, 1 + R)"""
        hidden = hidden[[codes.at for codes in own]]
        codes = torch.tensor([[int(codes.codes[0])] for codes in own], device=hidden.device)  # (N, 1)
        for _ in range(head.num_residuals):
            chances = (head.step(hidden, codes) / temperature).softmax(dim=-1)
            codes = torch.cat((codes, torch.multinomial(chances, 1, generator=self._generator)), dim=1)
        return codes.cpu().numpy().astype(np.uint16)
