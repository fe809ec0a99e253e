"""Query strings, in the spellings of the official clients: `group_by[]=a&group_by[]=b` and `metadata[k]=v`.

A parameter that the model has not is refused, and so is one value too many.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, get_origin

from fastapi import Request
from pydantic import BaseModel, ConfigDict

from sensorium.server.errors import invalid, validated

_BRACKETS = re.compile(r"([^\[\]]+)(?:\[(.*)\])?", re.DOTALL)


class Query(BaseModel):
    """Fields are texts, numbers, booleans, `list[...]` or `dict[str, str]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Q = TypeVar("Q", bound=Query)


def read_query(http: Request, model: type[Q]) -> Q:
    """Raises APIError that names the parameter at fault."""
    found: dict[str, Any] = {}
    for written, value in http.query_params.multi_items():
        parts = _BRACKETS.fullmatch(written)
        name, key = parts.groups() if parts else (written, None)
        field = model.model_fields.get(name)
        origin = get_origin(field.annotation) if field else None
        if origin is list and not key:
            found.setdefault(name, []).append(value)
        elif origin is dict and key is not None:
            pairs = found.setdefault(name, {})
            if key in pairs:
                raise invalid(f"'{name}[{key}]' is there twice.", f"{name}[{key}]")
            pairs[key] = value
        elif name in found or (field and (key is not None or origin is dict)):
            raise invalid(f"'{written}' can't be read.", name)
        else:
            found[name if key is None else written] = value
    return validated(model, found)
