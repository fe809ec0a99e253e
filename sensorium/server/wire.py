"""What every request model is made of: strictness, unions that name the field at fault, and the shapes many share."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


BARE = "<>"  # the tag of a union's member that is a text of its own: no value of the key, `errors` doesn't tell it


def tagged_by(key: str, *, or_text: bool = False) -> Discriminator:
    """Picks a union's member by `key`; with `or_text` a value that is a text is member `BARE`. Tags wear angle
    brackets: `errors.path` leaves those out of a field's path."""

    def tag(value: Any) -> str | None:
        if or_text and isinstance(value, str):
            return BARE
        name = value.get(key) if isinstance(value, dict) else getattr(value, key, None)  # models are written out too
        return f"<{name}>" if isinstance(name, str) else None

    tag.__name__ = key  # pydantic puts it into the error, from where it becomes part of `param`
    return Discriminator(tag)


def truth(text: Any) -> Any:
    """What a form's text says of yes and no, however it is written; anything else as it is."""
    return {"true": True, "false": False}.get(text.lower(), text) if isinstance(text, str) else text


# A text or a list, of parts as a rule.
TEXT_OR_PARTS = Discriminator(lambda value: "<parts>" if isinstance(value, list) else "<text>")
TaggedStr: TypeAlias = Annotated[str, Tag("<text>")]

ToolName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]

_MetadataKey: TypeAlias = Annotated[str, Field(max_length=64)]
_MetadataValue: TypeAlias = Annotated[str, Field(max_length=512)]
Metadata: TypeAlias = Annotated[dict[_MetadataKey, _MetadataValue], Field(max_length=16)]
