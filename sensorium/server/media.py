"""Pictures and clips off the wire: out of base64 or off the web, checked, and decoded into plain arrays.

Every bound is checked before the work it bounds starts: bytes before base64 is undone, pixels and seconds from
the file's header before its body is decoded. Decoding runs in the few threads that the caller gives, never on the
event loop: what a file of a few kilobytes may unfold to is taken a bounded number of times at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import struct
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Literal, NamedTuple, TypeVar

import av
import av.error
import numpy as np
import PIL.Image
import PIL.ImageOps
import soundfile
import soxr

from sensorium.engine.request import EngineInfo
from sensorium.messages import Audio, Image, Text
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, context_exceeded, invalid, unsupported
from sensorium.server.fetch import FetchError, TooLarge, fetch
from sensorium.server.files import FileReader, KeptFile

AudioFormat = Literal["wav", "mp3"]
Detail = Literal["low", "high", "auto"]
T = TypeVar("T")

MAX_SIDE = 1024  # larger pictures are scaled down to fit: an engine sees far less
_BAND_PIXELS = 2**20  # of a picture, converted at a time
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_MIN_RATE_HZ, _MAX_RATE_HZ, _MAX_CHANNELS = 4_000, 192_000, 8
_WAV_SIZE_UNKNOWN = 0x7FFF0000  # writers that cannot seek back leave a size in this region

_PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")  # of RIFF files, those that are no sound
_MOST_TOKEN_BYTES = 64  # longer tokens no tokenizer has

# The least that media take of a context, for engines that do not say it in `EngineInfo.limits`.
_IMAGE_TOKENS = 64
_AUDIO_TOKENS_PER_S = 12.5


class GivenFile(NamedTuple):
    """A file as a request names it: by id, or in base64."""

    id: str | None
    data: str | None
    name: str | None


class MediaReader:
    """Reads the media of one request, and keeps count: the limits are for all of its parts together.

    What the engine's context cannot hold is not decoded either: that is known long before the engine is asked.
    """

    def __init__(
        self,
        config: ServerConfig,
        info: EngineInfo,
        threads: Executor,
        *,
        prompt_param: str = "messages",
        files: FileReader | None = None,
    ) -> None:
        """`files` reads what was uploaded before; without, there are none."""
        self._config = config
        self._files = files
        self._prompt_param = prompt_param  # the request's field that all of it is in
        self._sample_rate_hz = info.sample_rate_hz
        self._threads = threads
        self._num_images = 0
        self._audio_s = 0.0
        self._max_tokens = info.max_tokens
        self._image_tokens = info.limits.get("image_tokens", _IMAGE_TOKENS)
        self._audio_tokens_per_s = info.limits.get("audio_tokens_per_s", _AUDIO_TOKENS_PER_S)

    async def image(self, url: str, detail: Detail, param: str) -> Image:
        """The picture behind a data URL or an http(s) URL. Raises APIError naming `param`."""
        config = self._config
        self._count_image(param)
        if url[:5].lower() == "data:":
            pixels = await self._in_thread(_image_from_data_url, url, param, config)
        else:
            pixels = await self._in_thread(decode_image, await self._fetch(url, param), param, config)
        return Image(pixels=pixels, detail=detail)

    async def kept_image(self, file_id: str, detail: Detail, param: str) -> Image:
        """The picture in an uploaded file. Raises APIError naming `param`."""
        return await self._image(await self._kept(file_id, param), detail, param)

    async def file(self, given: GivenFile, param: str) -> Text | Image | Audio:
        """What a file holds, by its bytes: text in UTF-8, a picture, or a clip. Raises APIError naming `param`."""
        if (given.id is None) == (given.data is None):
            raise invalid("A file is given either by `file_id` or in `file_data`.", param)
        if given.id is not None:
            name, data = await self._kept(given.id, f"{param}.file_id")
        else:
            name, data = given.name or "", await self._in_thread(bytes_of_data_url, given.data, f"{param}.file_data")
        if _is_wav(data) or _is_mp3(data):
            return await self._clip(data, "wav" if _is_wav(data) else "mp3", param)
        if data.startswith(_PICTURE_SIGNATURES):
            return await self._image(KeptFile(name, data), "auto", param)
        if data.startswith(b"%PDF-"):
            raise unsupported(param, "PDF files are not read yet: send their pages as pictures, or their text")
        if len(data) > _MOST_TOKEN_BYTES * self._max_tokens:
            raise context_exceeded("the file alone takes more than this model's context holds", self._prompt_param)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise unsupported(param, "only text in UTF-8, PNG, JPEG, WebP, GIF, WAV and MP3 files are read") from None
        return Text(text=f"{name}:\n{text}\n" if name else text)

    async def _kept(self, id: str, param: str) -> KeptFile:
        found = await self._files(id) if self._files else None
        if found is None:
            raise APIError(f"File with id '{id[:100]}' not found.", status=404, param=param)
        return found

    async def _image(self, file: KeptFile, detail: Detail, param: str) -> Image:
        self._count_image(param)
        if len(file.data) > self._config.max_image_bytes:
            raise invalid(
                f"The picture is larger than {self._config.max_image_bytes} bytes.", param, "image_file_too_large"
            )
        return Image(pixels=await self._in_thread(decode_image, file.data, param, self._config), detail=detail)

    def _count_image(self, param: str) -> None:
        self._num_images += 1
        if self._num_images > self._config.max_images:
            most = self._config.max_images
            raise invalid(f"At most {most} pictures fit in a request.", param, "array_above_max_length")
        if self._free_tokens < 0:
            raise self._exceeded()

    @property
    def _free_tokens(self) -> float:
        """What the media so far leave of the engine's context, at the most."""
        images, sound = self._num_images * self._image_tokens, self._audio_s * self._audio_tokens_per_s
        return self._max_tokens - images - sound

    def _exceeded(self) -> APIError:
        limit = f"the {self._max_tokens} tokens that this model's context holds"
        return context_exceeded(f"its pictures and clips alone take more than {limit}", self._prompt_param)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _fetch(self, url: str, param: str) -> bytes:
        config = self._config
        try:
            return await fetch(
                url,
                max_bytes=config.max_image_bytes,
                timeout_s=config.fetch_timeout_s,
                allow_private=config.allow_private_urls,
            )
        except TooLarge as error:
            raise invalid(f"The picture is too large: {error}.", param, "image_file_too_large") from None
        except FetchError as error:
            raise invalid(f"The picture cannot be fetched: {error}.", param, "invalid_image_url") from None

    async def audio(self, data: str, format: AudioFormat, param: str) -> Audio:
        """The clip in a base64 text, mono and at the engine's rate. Raises APIError naming `param`."""
        if len(data) * 3 // 4 > self._config.max_audio_bytes:
            raise self._too_large(param)
        try:
            raw = await self._in_thread(_from_base64, data)
        except ValueError:
            raise invalid("The clip is not valid base64.", param) from None
        return await self._clip(raw, format, param)

    def _too_large(self, param: str) -> APIError:
        return invalid(f"The clip is larger than {self._config.max_audio_bytes} bytes.", param, "audio_too_large")

    async def _clip(self, data: bytes, format: AudioFormat, param: str) -> Audio:
        config = self._config
        if len(data) > config.max_audio_bytes:
            raise self._too_large(param)
        allowed_s = config.max_audio_s - self._audio_s
        held_s = max(0.0, self._free_tokens / self._audio_tokens_per_s)
        try:
            clip = await self._in_thread(self._decode_audio, data, format, param, min(allowed_s, held_s))
        except ClipTooLong:
            if held_s < allowed_s:
                raise self._exceeded() from None
            raise
        self._audio_s += clip.duration_ms / 1000
        return clip

    def _decode_audio(self, data: bytes, format: AudioFormat, param: str, max_s: float) -> Audio:
        waveform, rate_hz = decode_audio(data, format, param, max_s)
        if rate_hz != self._sample_rate_hz:
            waveform = soxr.resample(waveform, rate_hz, self._sample_rate_hz)
        return Audio(waveform=waveform, sample_rate_hz=self._sample_rate_hz)


class ClipTooLong(APIError):
    """A clip has more seconds than are left to its request."""

    def __init__(self, param: str) -> None:
        message = "The clips of this request are longer than allowed."
        super().__init__(message, param=param, code="audio_too_large")


def _image_from_data_url(url: str, param: str, config: ServerConfig) -> np.ndarray:
    return decode_image(image_from_data_url(url, param, config.max_image_bytes), param, config)


def image_from_data_url(url: str, param: str, max_bytes: int) -> bytes:
    """The bytes in `data:image/...;base64,...`. Which of the picture formats they are in, the bytes say best."""
    header, comma, payload = url.partition(",")
    media_type, *attributes = header[len("data:") :].lower().split(";")
    if not comma or "base64" not in attributes:
        raise invalid("A data URL must read data:image/<type>;base64,<data>.", param, "invalid_image_url")
    if not media_type.startswith("image/"):
        raise invalid(f"The data URL holds {media_type!r}, not a picture.", param, "unsupported_image_media_type")
    if len(payload) * 3 // 4 > max_bytes:
        raise invalid(f"The picture is larger than {max_bytes} bytes.", param, "image_file_too_large")
    try:
        return _from_base64(payload)
    except ValueError:
        raise invalid("The picture is not valid base64.", param, "invalid_base64_image") from None


def bytes_of_data_url(text: str, param: str) -> bytes:
    """A file in base64, or in a data URL with it."""
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or "base64" not in header.lower().split(";"):
            raise invalid("A data URL must read data:<type>;base64,<data>.", param)
    try:
        return _from_base64(text)
    except ValueError:
        raise invalid("The file is not valid base64.", param) from None


def _from_base64(text: str) -> bytes:
    if "\n" in text or "\r" in text:  # MIME encoders break lines
        text = text.replace("\n", "").replace("\r", "")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def decode_image(data: bytes, param: str, config: ServerConfig) -> np.ndarray:
    """A PNG, JPEG, WebP or still GIF as (H, W, 3) uint8 RGB: upright, on white, at most MAX_SIDE on a side.

    Raises APIError naming `param`.
    """
    if not data:
        raise invalid("The picture is empty.", param, "empty_image_file")
    max_pixels = config.max_image_pixels
    if _is_one_scan_jpeg(data):
        max_pixels = max(max_pixels, config.max_photo_pixels)
    too_large = invalid(f"The picture has more than {max_pixels} pixels.", param, "image_too_large")
    try:
        # warns above a bound of Pillow's own, which is higher than ours
        image = PIL.Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise too_large from None
    except PIL.UnidentifiedImageError:
        raise invalid("The picture is not a PNG, JPEG, WebP or GIF.", param, "invalid_image_format") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise _damaged_image(param) from error
    with image:
        if image.width * image.height > max_pixels:
            raise too_large
        try:
            animated = image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False)
            pixels = np.empty(0) if animated else _to_rgb(image)
        except Exception as error:
            raise _damaged_image(param) from error
    if animated:
        raise invalid("Animated pictures are not supported.", param, "invalid_image_format")
    return pixels


def _damaged_image(param: str) -> APIError:
    return invalid("The picture is damaged and cannot be decoded.", param, "image_parse_error")


def _is_one_scan_jpeg(data: bytes) -> bool:
    """Whether a JPEG holds all its colours in one scan from top to bottom, as cameras write it.

    Only such a one is decoded line by line; of any other, a progressive one say, the decoder holds all coefficients.
    """
    if data[:2] != b"\xff\xd8":
        return False
    position, num_components = 2, 0
    while position + 10 <= len(data):
        marker, size = struct.unpack_from(">HH", data, position)
        if marker < 0xFFC0 or 0xFFD0 <= marker <= 0xFFD9 or marker == 0xFFFF:
            return False  # legal, but a decoder might read on elsewhere than we would
        if marker in (0xFFC0, 0xFFC1):  # the header of a frame in sequential order
            num_components = data[position + 9]
        if marker == 0xFFDA:  # the first scan begins
            return data[position + 4] == num_components
        position += 2 + size
    return False


def _to_rgb(image: PIL.Image.Image) -> np.ndarray:
    """Shrinks while it converts, band by band: the file's own mode takes a byte a pixel where RGBA takes four."""
    scale = min(1.0, MAX_SIDE / max(image.size))
    fitting = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    image.draft(image.mode, fitting)  # a JPEG is decoded at a half, a quarter or an eighth of its size
    factor = max(1, max(image.size) // MAX_SIDE)
    shrunk = PIL.Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    band_height = factor * max(1, _BAND_PIXELS // (factor * image.width))
    for top in range(0, image.height, band_height):
        band = image.crop((0, top, image.width, min(top + band_height, image.height)))
        shrunk.paste(_on_white(band).reduce(factor), (0, top // factor))
    whole = (0, 0, image.width / factor, image.height / factor)  # the last row and column may be less than one
    fitted = shrunk.resize(fitting, PIL.Image.Resampling.BICUBIC, box=whole)
    fitted.info = image.info  # says which side is up
    return np.array(PIL.ImageOps.exif_transpose(fitted))  # (H, W, 3)


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    """A picture of any mode as RGB."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.asarray(image).astype(np.int64) >> 8
        image = PIL.Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = PIL.Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def decode_audio(data: bytes, format: AudioFormat, param: str, max_s: float) -> tuple[np.ndarray, int]:
    """A WAV or MP3 file as mono float32 in [-1, 1], and its sample rate in Hz."""
    if not data:
        raise invalid("The clip is empty.", param)
    looks_right = _is_wav(data) if format == "wav" else _is_mp3(data)
    if not looks_right:
        raise invalid(f"The clip is not in {format} format.", param)
    decode = _decode_wav if format == "wav" else _decode_mp3
    try:
        waveform, rate_hz = decode(data, param, max_s)
    except (soundfile.LibsndfileError, av.error.FFmpegError, ValueError, struct.error) as error:
        raise invalid(f"The clip is damaged and cannot be decoded as {format}.", param) from error
    if not len(waveform):
        raise invalid("The clip holds no sound.", param)
    if not np.isfinite(waveform).all():
        raise invalid("The clip holds samples that are not numbers.", param)
    return np.clip(waveform, -1.0, 1.0), rate_hz


def _is_wav(data: bytes) -> bool:
    return data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE"


def _is_mp3(data: bytes) -> bool:
    return data[:3] == b"ID3" or (len(data) > 2 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2)  # sync, layer III


def _decode_wav(data: bytes, param: str, max_s: float) -> tuple[np.ndarray, int]:
    check_wav_is_whole(data)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        check_sound(file.samplerate, file.channels, param)
        if file.frames > max_s * file.samplerate:
            raise ClipTooLong(param)
        return file.read(dtype="float32", always_2d=True).mean(axis=1), file.samplerate


def check_wav_is_whole(data: bytes) -> None:
    """A file cut short says so in the size of its `data` chunk, which libsndfile silently corrects."""
    order = ">" if data[:4] == b"RIFX" else "<"
    position = 12
    while position + 8 <= len(data):
        name, (size,) = data[position : position + 4], struct.unpack_from(f"{order}I", data, position + 4)
        position += 8 + size + size % 2
        if name == b"data":
            if len(data) < position - size % 2 and size < _WAV_SIZE_UNKNOWN:
                raise ValueError("cut short")
            return


def _decode_mp3(data: bytes, param: str, max_s: float) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(data), "r", format="mp3") as container:
        stream = container.streams.audio[0]
        rate_hz = stream.codec_context.sample_rate
        check_sound(rate_hz, stream.codec_context.channels, param)
        resampler = av.AudioResampler(format="fltp", rate=rate_hz)  # only unifies the sample format
        blocks, num_samples = [], 0
        for frame in container.decode(stream):
            for unified in resampler.resample(frame):
                blocks.append(unified.to_ndarray().mean(axis=0))  # (C, N) -> (N,)
                num_samples += len(blocks[-1])
            if num_samples > max_s * rate_hz:
                raise ClipTooLong(param)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate_hz


def check_sound(rate_hz: int, num_channels: int, param: str) -> None:
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise invalid(f"The clip's sample rate is outside {_MIN_RATE_HZ}..{_MAX_RATE_HZ} Hz.", param)
    if not 1 <= num_channels <= _MAX_CHANNELS:
        raise invalid(f"The clip has more than {_MAX_CHANNELS} channels.", param)
