"""Sound and pictures of any rate and size -> what the network hears and sees."""

from __future__ import annotations

import numpy as np
import soxr
import torch

from sensorium.engine.request import Canvas
from sensorium.messages import Audio, Image, Video
from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.tokenizers.encoded import HIDDEN, EncodedAudio, EncodedFilm, EncodedImage
from sensorium.tokenizers.image import ImageTokenizer, coarsened, filled, fit_hole, fit_square
from sensorium.tokenizers.render import FRAME_STRIDE

FRAMES_AT_ONCE = 16  # of a film, encoded together


class MediaEncoder:
    """`audio`, `image` and `film` encode; those named blank only take as much room, to count positions."""

    def __init__(self, audio_tokenizer: AudioTokenizer, image_tokenizer: ImageTokenizer) -> None:
        self._audio_tokenizer = audio_tokenizer
        self._image_tokenizer = image_tokenizer

    def audio(self, clip: Audio) -> EncodedAudio:
        config = self._audio_tokenizer.config
        waveform = np.asarray(clip.waveform, dtype=np.float32)
        if clip.sample_rate_hz != config.sample_rate_hz:
            waveform = soxr.resample(waveform, clip.sample_rate_hz, config.sample_rate_hz)
        whole = np.zeros(self.num_frames(clip) * config.frame_size, dtype=np.float32)
        waveform = waveform[: len(whole)]
        whole[: len(waveform)] = waveform
        frames, _ = self._audio_tokenizer.encode(torch.from_numpy(whole).unsqueeze(0))
        return _encoded(clip, frames.codes[0].numpy(), frames.features[0].numpy())

    def blank_audio(self, clip: Audio) -> EncodedAudio:
        num_codes = 1 + self._audio_tokenizer.config.num_acoustic
        return _encoded(clip, np.zeros((self.num_frames(clip), num_codes), dtype=np.int64), None)

    def num_frames(self, clip: Audio) -> int:
        config = self._audio_tokenizer.config
        samples = round(len(clip.waveform) * config.sample_rate_hz / clip.sample_rate_hz)
        return max(1, -(-samples // config.frame_size))

    def image(self, image: Image) -> EncodedImage:
        pixels = fit_square(image.pixels, self._image_tokenizer.config.image_size)
        patches = self._image_tokenizer.encode(torch.from_numpy(pixels).unsqueeze(0))
        return EncodedImage(codes=patches.codes[0].numpy(), features=patches.features[0].numpy(), caption=image.caption)

    def given_patches(self, canvas: Canvas) -> dict[int, np.ndarray]:
        """The (1 + R,) codes of the patches that lie wholly outside the hole, by their number.

        Codes tell of what is beside their patch. So they are those of the picture with its hole filled: otherwise what
        is to be taken away is drawn again.
        """
        config = self._image_tokenizer.config
        size, grid, side = config.image_size, config.grid, config.patch_size
        codes = self.image(Image(pixels=filled(canvas.picture.pixels, canvas.hole, size))).codes
        is_drawn = fit_hole(canvas.hole, size).reshape(grid, side, grid, side).any(axis=(1, 3)).reshape(-1)
        return {int(patch): codes[patch] for patch in np.flatnonzero(~is_drawn)}

    def blank_image(self, image: Image) -> EncodedImage:
        config = self._image_tokenizer.config
        codes = np.zeros((config.num_patches, 1 + config.num_residuals), dtype=np.int64)
        return EncodedImage(codes=codes, caption=image.caption)

    def film(self, film: Video) -> EncodedFilm:
        """Frames are seen by the mean features of four patches, and without codes: there are none of four."""
        size = self._image_tokenizer.config.image_size
        frames: list[EncodedImage] = []
        for at in range(0, len(film.frames), FRAMES_AT_ONCE):
            few = [fit_square(frame.pixels, size) for frame in film.frames[at : at + FRAMES_AT_ONCE]]
            seen = coarsened(self._image_tokenizer.encode(torch.from_numpy(np.stack(few))).features, FRAME_STRIDE)
            frames += [EncodedImage(codes=self._no_codes(), features=features) for features in seen.numpy()]
        sound = None if film.sound is None else self.audio(film.sound)
        return EncodedFilm(frames=tuple(frames), times_ms=film.times_ms, sound=sound, caption=film.caption)

    def blank_film(self, film: Video) -> EncodedFilm:
        frames = (EncodedImage(codes=self._no_codes()),) * len(film.frames)
        sound = None if film.sound is None else self.blank_audio(film.sound)
        return EncodedFilm(frames=frames, times_ms=film.times_ms, sound=sound, caption=film.caption)

    def _no_codes(self) -> np.ndarray:
        config = self._image_tokenizer.config
        return np.full((config.num_patches // FRAME_STRIDE**2, 1 + config.num_residuals), HIDDEN, dtype=np.int64)


def _encoded(clip: Audio, codes: np.ndarray, features: np.ndarray | None) -> EncodedAudio:
    return EncodedAudio(
        codes=codes,
        features=features,
        transcript=clip.transcript,
        words=clip.words,
        voice=clip.voice,
        cut=clip.cut,
    )
