"""What the Images API may be asked: strict models of the contract's fields, read out of JSON or a form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field

from sensorium.server.body import Upload
from sensorium.server.errors import invalid, missing, unknown, unsupported, validated
from sensorium.server.picture_request import ImageRef, PictureFields
from sensorium.server.wire import truth

Kind: TypeAlias = Literal["generation", "edit", "variation"]

MAX_INPUTS = 16
DEFAULT_MODEL = "gpt-image-1"

_WITHOUT_OLD_FIELDS = ("gpt-image", "chatgpt-image")  # models that have no fields of the DALL-E models
_OLD_QUALITIES = {"standard": "medium", "hd": "high"}  # of the DALL-E models
_NUMBERS = ("n", "output_compression", "partial_images")


class ImagesRequest(PictureFields):
    """What may be said of new pictures, whatever they are made from."""

    model: str = DEFAULT_MODEL
    n: Annotated[int, Field(ge=1, le=10)] = 1
    stream: bool = False
    response_format: Literal["url", "b64_json"] | None = None

    # accepted and ignored, as the contract says
    user: str | None = None
    safety_identifier: str | None = None

    @property
    def is_natural(self) -> bool:
        """Whether what is drawn may be less like the words of the prompt."""
        return False

    @property
    def named(self) -> str:
        """The model that the request itself names."""
        return self.model if "model" in self.model_fields_set else ""

    @property
    def as_urls(self) -> bool:
        return (self.response_format or ("url" if self.model.startswith("dall-e") else "b64_json")) == "url"

    def check_all(self) -> None:
        """Raises APIError for the first field that can't be obeyed, or contradicts another."""
        if self.response_format and self.named.startswith(_WITHOUT_OLD_FIELDS):
            raise unknown("response_format")
        if self.stream and self.n > 1:
            raise invalid("A stream shows one picture: 'n' must be 1.", "n")
        if self.stream and self.as_urls:
            asked = "response_format" if self.response_format else "stream"
            raise unsupported(asked, "a stream holds its pictures in base64: ask for `response_format` b64_json")
        self.check()


class GenerationRequest(ImagesRequest):
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    style: Literal["vivid", "natural"] | None = None

    @property
    def is_natural(self) -> bool:
        return self.style == "natural"

    def check_all(self) -> None:
        if self.style and self.named.startswith(_WITHOUT_OLD_FIELDS):
            raise unknown("style")
        _refuse_fidelity(self)
        super().check_all()


class EditRequest(ImagesRequest):
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    images: Annotated[list[ImageRef], Field(min_length=1, max_length=MAX_INPUTS)]
    mask: ImageRef | None = None


class EditForm(ImagesRequest):
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]


class VariationRequest(ImagesRequest):
    """The contract has fewer fields for these: those that make sense are obeyed too."""

    model: str = "dall-e-2"

    def check_all(self) -> None:
        if self.stream:
            raise unsupported("stream", "variations come whole")
        _refuse_fidelity(self)
        super().check_all()


M = TypeVar("M", bound=ImagesRequest)


def read(model: type[M], fields: Any) -> M:
    """A request as JSON; what is null was not said. Raises APIError."""
    if isinstance(fields, dict):
        fields = {name: value for name, value in fields.items() if value is not None}
        if isinstance(quality := fields.get("quality"), str):
            fields["quality"] = _OLD_QUALITIES.get(quality, quality)
    request = validated(model, fields)
    request.check_all()
    return request


def _refuse_fidelity(request: ImagesRequest) -> None:
    if request.input_fidelity:
        raise unknown("input_fidelity")


def read_form_fields(model: type[M], fields: Mapping[str, Any]) -> M:
    """As `read`, of a form, which holds nothing but texts."""
    said = dict(fields)
    for name in _NUMBERS:
        if isinstance(said.get(name), str) and re.fullmatch(r"[+-]?\d{1,9}", said[name], re.ASCII):
            said[name] = int(said[name])
    if "stream" in said:
        said["stream"] = truth(said["stream"])
    return read(model, said)


def uploads(fields: dict[str, Any], name: str, *, most: int = 1) -> list[bytes]:
    """Takes the files of a field out of a form. Raises APIError unless there are 1 to `most` of them."""
    given = fields.pop(name, None)
    files = given if isinstance(given, list) else [given]
    if given is None:
        raise missing(name)
    if not files or not all(isinstance(file, Upload) for file in files):
        raise invalid(f"'{name}' must be a file.", name, "invalid_type")
    if len(files) > most:
        raise invalid(f"'{name}' holds {len(files)} files; {most} at most.", name, "array_above_max_length")
    return [file.data for file in files]
