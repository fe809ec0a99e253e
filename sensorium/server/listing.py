"""Lists on the wire: the query that asks for a page of one, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sensorium.server.errors import APIError, from_validation, invalid
from sensorium.server.wire import Metadata

Json = dict[str, Any]


class Query(BaseModel):
    """What may stand behind the question mark. Not strict: all of it is text."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class PageQuery(Query):
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


class CompletionsQuery(PageQuery):
    order: Literal["asc", "desc"] = "asc"
    model: str | None = None
    metadata: Metadata | None = None


Q = TypeVar("Q", bound=Query)


def read_query(http: Request, model: type[Q]) -> Q:
    """The query by a model of it, in the official clients' spelling of lists and tables: `x[]=1`, `x[key]=1`.

    Raises APIError naming the parameter at fault.
    """
    values: Json = {}
    for name, value in http.query_params.multi_items():
        base, bracket, key = name.partition("[")
        key = key.removesuffix("]")
        if not bracket and base not in values:
            values[base] = [value] if _is_list(model, base) else value
        elif not key and isinstance(values.setdefault(base, []), list):
            values[base].append(value)
        elif key and isinstance(values.setdefault(base, {}), dict):
            values[base][key] = value
        else:
            raise invalid(f"'{base}' is given more than once.", base)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from None


def _is_list(model: type[Query], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and "list" in str(field.annotation)


def list_body(data: Sequence[Json], *, has_more: bool) -> Json:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": has_more}


def page_of(data: Sequence[Json], query: PageQuery) -> Json:
    """A page of a list that is there whole, in its own order."""
    ordered = list(data) if query.order == "asc" else list(reversed(data))
    if query.after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == query.after]
        if not places:
            raise unknown_cursor()
        ordered = ordered[places[0] + 1 :]
    return list_body(ordered[: query.limit], has_more=len(ordered) > query.limit)


def unknown_cursor() -> APIError:
    return invalid("'after' names nothing in this list.", "after")


def not_found(what: str, id: str, param: str | None = None) -> APIError:
    return APIError(f"{what} with id '{id[:100]}' not found.", status=404, param=param)
