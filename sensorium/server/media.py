"""Pictures, clips and films off the wire: out of base64 or off the web, checked, and decoded into plain arrays.

Every bound is checked before the work it bounds starts: bytes before base64 is undone, pixels and seconds from
the file's header before its body is decoded. Decoding runs in the few threads that the caller gives, never on the
event loop: what a file of a few kilobytes may unfold to is taken a bounded number of times at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from sensorium.engine.request import EngineInfo
from sensorium.messages import Audio, Image, Part, Text, Video
from sensorium.server.animation_in import decode_animation
from sensorium.server.comfort_noise import with_quiet_edges
from sensorium.server.config import ServerConfig
from sensorium.server.container import reader_of
from sensorium.server.errors import APIError, context_exceeded, invalid, unsupported
from sensorium.server.fetch import FetchError, TooLarge, fetch
from sensorium.server.files import FileReader, KeptFile
from sensorium.server.film_in import MAX_FRAME_SIDE, FilmBounds, FilmTooLong, decode_film, has_pictures, is_film
from sensorium.server.image_tokens import FRAME_TOKENS, Detail, in_detail, picture_size, view_tokens
from sensorium.server.pages_in import DocumentBounds, decode_pages
from sensorium.server.picture_in import (
    MAX_SIDE,
    AnimatedPicture,
    decode_image,
    decode_whole,
    from_base64,
    image_from_data_url,
    upright_size,
)
from sensorium.server.sound_file import SoundFile, SoundTooLong

AudioFormat = Literal["wav", "mp3"]
T = TypeVar("T")

_PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
_MOST_TOKEN_BYTES = 64  # longer tokens no tokenizer has

_AUDIO_TOKENS_PER_S = 12.5  # for engines that do not say it in `EngineInfo.limits`

# A film whose rate is left to us is looked at less often, down to so few frames, where it would leave less than such a
# share of the context for what is said and shown besides and for the answer.
_FEWEST_FRAMES, _SHARE_FOR_WORDS = 4, 4


class _Kind(NamedTuple):
    """What is fetched, and the codes of what may go wrong."""

    name: str
    accept: str
    too_large: str
    no_url: str


_PICTURE = _Kind("picture", "image/*", "image_file_too_large", "invalid_image_url")
_FILM = _Kind("film", "video/*", "video_too_large", "invalid_video_url")


class GivenFile(NamedTuple):
    """A file as a request names it: by id, or in base64."""

    id: str | None
    data: str | None
    name: str | None
    detail: Detail = "auto"  # in which its pictures are looked at


class Decoders(NamedTuple):
    """The threads in which files are decoded, of all requests together."""

    media: Executor
    documents: Executor  # of their own: one waits for as long as a PDF file may take to draw

    @classmethod
    def of(cls, config: ServerConfig) -> Decoders:
        """Of their own too: the threads that asyncio shares out are many, and a decode may take a quarter of a
        gigabyte."""
        media, documents = (
            ThreadPoolExecutor(config.max_concurrent_decodes, thread_name_prefix=f"sensorium-{name}")
            for name in ("decode", "documents")
        )
        return cls(media, documents)

    def close(self) -> None:
        for threads in self:
            threads.shutdown(wait=False, cancel_futures=True)


class MediaReader:
    """Reads the media of one request, and keeps count: the limits are for all of its parts together.

    What the engine's context cannot hold is not decoded either: that is known long before the engine is asked.
    """

    def __init__(
        self,
        config: ServerConfig,
        info: EngineInfo,
        decoders: Decoders,
        *,
        prompt_param: str = "messages",
        files: FileReader | None = None,
    ) -> None:
        """`files` reads what was uploaded before; without, there are none."""
        self._config = config
        self._files = files
        self._prompt_param = prompt_param  # the request's field that all of it is in
        self._sample_rate_hz = info.sample_rate_hz
        self._decoders = decoders
        self._num_expected = 0  # pictures
        self._num_images = 0
        self._num_views = 0  # of pictures: a whole, or a part that is looked at besides
        self._num_frames = 0
        self._film_s = 0.0
        self._audio_s = 0.0
        self._added_s = 0.0  # of noise around clips
        self._max_tokens = info.max_tokens
        self._answer_tokens = info.limits.get("answer_tokens", 0)
        self._view_tokens = view_tokens(info.limits)
        self._frame_tokens = info.limits.get("frame_tokens", FRAME_TOKENS)
        self._audio_tokens_per_s = info.limits.get("audio_tokens_per_s", _AUDIO_TOKENS_PER_S)

    def expect_images(self, number: int) -> None:
        """So many pictures come: who is told that not all of them fit is told of how many."""
        self._num_expected = number

    async def image(self, url: str, detail: Detail, param: str) -> Image | Video:
        """The picture behind a data URL or an http(s) URL: a film if it is animated. Raises APIError naming `param`."""
        self._count_image(param)
        return await self._decoded_image(await self.picture_file(url, param), detail, param)

    async def still(self, url: str, param: str) -> Image:
        """As `image`, but nothing that moves: what an assistant has drawn. Raises APIError naming `param`."""
        self._count_image(param)
        return await self._still(url, param)

    async def frame(self, url: str, param: str) -> Image:
        """A frame of a camera, as `image` takes it. Raises APIError naming `param`."""
        self._num_frames += 1
        most = self._config.max_film_frames
        if self._num_frames > most:
            raise invalid(f"At most {most} frames of a film are seen.", param, "array_above_max_length")
        if self._free_tokens < 0:
            raise self._exceeded()
        return await self._still(url, param, MAX_FRAME_SIDE)

    async def _still(self, url: str, param: str, max_side: int = MAX_SIDE) -> Image:
        data = await self.picture_file(url, param)
        return Image(pixels=await self._in_thread(decode_image, data, param, self._config, max_side))

    async def _decoded_image(self, data: bytes, detail: Detail, param: str) -> Image | Video:
        """`_count_image` has let it in."""
        try:
            pixels = await self._in_thread(decode_image, data, param, self._config)
        except AnimatedPicture:
            self._num_views -= 1
            film = await self._in_thread(decode_animation, data, param, self._film_bounds(self._free_tokens))
            self._count_film(film)
            return film
        return await self._looked_at(Image(pixels=pixels, detail=detail, given_size=picture_size(data)))

    async def _looked_at(self, given: Image) -> Image:
        """In the detail that is asked for."""
        if given.detail == "high":
            self._num_views += len(await self._in_thread(lambda: given.quarters))
            self._check_it_is_seen()
        return await self._in_thread(in_detail, given)  # it need not be looked at closer: so that takes no room yet

    async def kept_image(self, file_id: str, detail: Detail, param: str) -> Image | Video:
        """The picture in an uploaded file. Raises APIError naming `param`."""
        return await self._image((await self._kept(file_id, param)).data, detail, param)

    async def picture(self, data: bytes, param: str) -> Image:
        """The picture in a file that is here already, a still one that is to be changed: its room is not counted here.
        Raises APIError naming `param`."""
        self._count_image(param, takes_room=False)
        return Image(pixels=await self._in_thread(decode_image, self._bounded(data, param), param, self._config))

    async def whole_picture(self, data: bytes, param: str) -> np.ndarray:
        """All pixels of a picture, and how opaque each is: (H, W, 4) uint8. Raises APIError naming `param`."""
        return await self._in_thread(decode_whole, self._bounded(data, param), param, self._config)

    async def given_size(self, data: bytes) -> tuple[int, int]:
        """Width and height of a picture that was decoded already, as it is to be looked at."""
        return await self._in_thread(upright_size, data)

    async def picture_file(self, url: str, param: str) -> bytes:
        """What is behind a data URL or an http(s) URL, not decoded yet. Raises APIError naming `param`."""
        if url[:5].lower() == "data:":
            return await self._in_thread(image_from_data_url, url, param, self._config.max_image_bytes)
        return await self._fetch(url, param, _PICTURE)

    async def kept_picture_file(self, file_id: str, param: str) -> bytes:
        """An uploaded file, not decoded yet. Raises APIError naming `param`."""
        return self._bounded((await self._kept(file_id, param)).data, param)

    async def film(self, url: str, fps: float | None, param: str) -> Video:
        """The film behind a data URL or an http(s) URL. Raises APIError naming `param`."""
        if url[:5].lower() == "data:":
            if not url[5:].lower().startswith("video/"):
                raise invalid("A film's data URL must read data:video/<type>;base64,<data>.", param)
            self._check_film_size(len(url) * 3 // 4, param)
            data = await self._in_thread(bytes_of_data_url, url, param)
        else:
            data = await self._fetch(url, param, _FILM)
        return await self._film(data, fps, param)

    async def kept_film(self, file_id: str, fps: float | None, param: str) -> Video:
        """The film in an uploaded file. Raises APIError naming `param`."""
        return await self._film((await self._kept(file_id, param)).data, fps, param)

    async def _film(self, data: bytes, fps: float | None, param: str) -> Video:
        self._check_film_size(len(data), param)
        held_s = max(0.0, self._free_tokens)  # every second has a mark
        bounds = self._film_bounds(held_s)
        work = partial(decode_film, fps=fps, sample_rate_hz=self._sample_rate_hz)
        try:
            film = await self._in_thread(work, data, param, bounds)
        except FilmTooLong:
            if bounds.max_s == held_s:
                raise self._exceeded() from None
            raise
        if fps is None:
            while len(film.frames) > _FEWEST_FRAMES and self._left_by(film) < self._max_tokens / _SHARE_FOR_WORDS:
                film = film.thinned
        self._count_film(film)
        return film

    def _left_by(self, film: Video) -> float:
        """What a film would leave of the context besides."""
        sound_s = film.sound.duration_ms / 1000 if film.sound else 0.0
        frames, marks = len(film.frames) * self._frame_tokens, film.duration_ms / 1000
        return self._free_tokens - frames - marks - sound_s * self._audio_tokens_per_s

    def _film_bounds(self, held_s: float) -> FilmBounds:
        config = self._config
        return FilmBounds(
            max_pixels=config.max_film_pixels,
            max_s=max(0.0, min(config.max_film_s - self._film_s, held_s)),
            max_frames=config.max_film_frames,
        )

    def _count_film(self, film: Video) -> None:
        self._film_s += film.duration_ms / 1000
        self._num_frames += len(film.frames)
        self._audio_s += film.sound.duration_ms / 1000 if film.sound else 0.0
        if self._free_tokens < 0:
            fitting = self._num_frames + int(self._free_tokens // self._frame_tokens)
            told = f": of its first {self._num_frames} frames of film at most {fitting} fit"
            raise self._exceeded(told if fitting > 0 else "")

    def _check_film_size(self, num_bytes: int, param: str) -> None:
        if num_bytes > self._config.max_film_bytes:
            raise invalid(f"The film is larger than {self._config.max_film_bytes} bytes.", param, "video_too_large")

    async def file(self, given: GivenFile, param: str) -> list[Part]:
        """What a file holds, by its bytes: text in UTF-8, a picture, sound, a film, or the pages of a PDF file.

        Raises APIError naming `param`.
        """
        if (given.id is None) == (given.data is None):
            raise invalid("A file is given either by `file_id` or in `file_data`.", param)
        if given.id is not None:
            name, data = await self._kept(given.id, f"{param}.file_id")
        else:
            name, data = given.name or "", await self._in_thread(bytes_of_data_url, given.data, f"{param}.file_data")
        if is_film(data) and await self._in_thread(has_pictures, data):
            return [await self._film(data, None, param)]
        if reader_of(data) is not None:
            return [await self._clip(data, None, param)]
        if data.startswith(_PICTURE_SIGNATURES) or data[8:12] == b"WEBP":
            return [await self._image(data, given.detail, param)]
        if data.startswith(b"%PDF-"):
            return await self._pages(KeptFile(name, data), given.detail, param)
        if len(data) > _MOST_TOKEN_BYTES * self._max_tokens:
            raise context_exceeded("the file alone takes more than this model's context holds", self._prompt_param)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise unsupported(
                param, "only text in UTF-8, PNG, JPEG, WebP, GIF, PDF, MP4, MOV and WebM files and sound are read"
            ) from None
        return [Text(text=f"{name}:\n{text}\n" if name else text)]

    async def _pages(self, file: KeptFile, detail: Detail, param: str) -> list[Part]:
        """Every page of a PDF file: its text, and then what it looks like."""

        def allow(num_pages: int) -> None:
            if num_pages > self._config.max_images - self._num_images:
                raise self._too_many_images(param)
            self._num_expected = max(self._num_expected, self._num_images) + num_pages
            if (most := int(self._free_tokens // self._view_tokens)) < num_pages:
                raise self._too_many_to_see(self._num_images + most)

        config, max_chars = self._config, _MOST_TOKEN_BYTES * self._max_tokens
        bounds = DocumentBounds(max_s=config.max_document_s, max_memory_bytes=config.max_document_memory_bytes)
        ends: list[Callable[[], None]] = []
        work = partial(decode_pages, file.data, param, allow, max_chars, bounds, began=ends.append)
        try:
            pages = await asyncio.get_running_loop().run_in_executor(self._decoders.documents, work)
        except asyncio.CancelledError:  # nobody waits for it any more
            for end in ends:
                end()
            raise
        parts: list[Part] = []
        for number, page in enumerate(pages, start=1):
            self._count_image(param)
            heading = f"{file.filename or 'PDF'}, page {number}:\n"
            seen = await self._looked_at(Image(pixels=page.pixels, detail=detail))
            parts += [Text(text=f"{heading}{page.text}\n"), seen]
        return parts

    async def _kept(self, id: str, param: str) -> KeptFile:
        found = await self._files(id) if self._files else None
        if found is None:
            raise APIError(f"File with id '{id[:100]}' not found.", status=404, param=param)
        return found

    async def _image(self, data: bytes, detail: Detail, param: str) -> Image | Video:
        self._count_image(param)
        return await self._decoded_image(self._bounded(data, param), detail, param)

    def _bounded(self, data: bytes, param: str) -> bytes:
        if len(data) > (most := self._config.max_image_bytes):
            raise invalid(f"The picture is larger than {most} bytes.", param, "image_file_too_large")
        return data

    def _count_image(self, param: str, *, takes_room: bool = True) -> None:
        self._num_images += 1
        self._num_views += takes_room
        if self._num_images > self._config.max_images:
            raise self._too_many_images(param)
        self._check_it_is_seen()

    def _check_it_is_seen(self) -> None:
        """The picture that came last."""
        if self._free_tokens < 0:
            raise self._too_many_to_see(self._num_images - 1)

    def _too_many_images(self, param: str) -> APIError:
        most = self._config.max_images
        return invalid(f"At most {most} pictures fit in a request.", param, "array_above_max_length")

    @property
    def _free_tokens(self) -> float:
        """What the media so far leave of the engine's context, at the most, but for what the answer takes."""
        images, sound = self._num_views * self._view_tokens, (self._audio_s + self._added_s) * self._audio_tokens_per_s
        return (
            self._max_tokens
            - self._answer_tokens
            - images
            - sound
            - self._num_frames * self._frame_tokens
            - self._film_s
        )

    def _exceeded(self, what_fits: str = "") -> APIError:
        limit = f"the {self._max_tokens} tokens that this model's context holds"
        return context_exceeded(
            f"its pictures, clips and films alone take more than {limit}{what_fits}", self._prompt_param
        )

    def _too_many_to_see(self, num_fitting: int) -> APIError:
        num_images = max(self._num_expected, self._num_images)
        return self._exceeded(f": of {num_images} pictures at most {num_fitting} fit")

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders.media, work, *args)

    async def _fetch(self, url: str, param: str, kind: _Kind) -> bytes:
        try:
            return await fetch(
                url,
                max_bytes=self._config.max_film_bytes if kind is _FILM else self._config.max_image_bytes,
                timeout_s=self._config.fetch_timeout_s,
                allow_private=self._config.allow_private_urls,
                accept=kind.accept,
            )
        except TooLarge as error:
            raise invalid(f"The {kind.name} is too large: {error}.", param, kind.too_large) from None
        except FetchError as error:
            raise invalid(f"The {kind.name} cannot be fetched: {error}.", param, kind.no_url) from None

    async def audio(self, data: str, format: AudioFormat, param: str) -> Audio:
        """The clip in a base64 text: mono, at the engine's rate, with quiet edges. Raises APIError naming `param`."""
        if len(data) * 3 // 4 > self._config.max_audio_bytes:
            raise self._too_large(param)
        try:
            raw = await self._in_thread(from_base64, data)
        except ValueError:
            raise invalid("The clip is not valid base64.", param) from None
        return await self._clip(raw, format, param)

    def _too_large(self, param: str) -> APIError:
        return invalid(f"The clip is larger than {self._config.max_audio_bytes} bytes.", param, "audio_too_large")

    async def _clip(self, data: bytes, format: AudioFormat | None, param: str) -> Audio:
        """Without a format, whatever holds sound."""
        config = self._config
        if len(data) > config.max_audio_bytes:
            raise self._too_large(param)
        allowed_s = config.max_audio_s - self._audio_s
        held_s = max(0.0, self._free_tokens / self._audio_tokens_per_s)
        try:
            max_s = max(0.0, min(allowed_s, held_s))
            clip = await self._in_thread(decode_clip, data, format, param, max_s, self._sample_rate_hz)
        except SoundTooLong:
            if held_s < allowed_s:
                raise self._exceeded() from None
            raise
        self._audio_s += clip.duration_ms / 1000
        return self._with_quiet_edges(clip)

    def _with_quiet_edges(self, clip: Audio) -> Audio:
        """The clip as it is heard best, if the context has room for that."""
        heard = replace(clip, waveform=with_quiet_edges(clip.waveform, clip.sample_rate_hz).waveform)
        added_s = (heard.duration_ms - clip.duration_ms) / 1000
        if self._free_tokens < added_s * self._audio_tokens_per_s:
            return clip
        self._added_s += added_s
        return heard


def bytes_of_data_url(text: str, param: str) -> bytes:
    """A file in base64, or in a data URL with it."""
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or "base64" not in header.lower().split(";"):
            raise invalid("A data URL must read data:<type>;base64,<data>.", param)
    try:
        return from_base64(text)
    except ValueError:
        raise invalid("The file is not valid base64.", param) from None


def decode_clip(data: bytes, format: AudioFormat | None, param: str, max_s: float, rate_hz: int) -> Audio:
    """A file of sound, mono and at the rate asked for; it is refused if it is in another format than it is said to be.
    Raises APIError naming `param`, SoundTooLong if it is that."""
    name = f"clip.{format}" if format else ""
    with SoundFile(data, name, rate_hz=rate_hz, max_s=max_s, param=param, noun="clip", code="invalid_value") as file:
        return Audio(waveform=np.concatenate(list(file.pieces())), sample_rate_hz=rate_hz)
