"""One exception for everything the edge refuses, and the one shape in which a client sees it.

    {"error": {"message": str, "type": str, "param": str | null, "code": str | null}}

`param` is the path of the field at fault, as in `messages[0].content[1].image_url`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError


class APIError(Exception):
    """An answer other than success. `message` is shown to the client: nothing internal belongs in it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def envelope(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.envelope(), status_code=self.status, headers=self.headers)


def invalid(message: str, param: str | None, code: str = "invalid_value") -> APIError:
    return APIError(message, param=param, code=code)


def unknown(param: str) -> APIError:
    return invalid(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def missing(param: str) -> APIError:
    return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def unsupported(param: str, what: str) -> APIError:
    """A field that OpenAI's service obeys and this server cannot: better refused than ignored."""
    return APIError(f"Unsupported value: '{param}': {what}.", param=param, code="unsupported_value")


def context_exceeded(why: str, param: str = "messages") -> APIError:
    return invalid(f"The prompt is too long: {why}.", param, "context_length_exceeded")


def inside(field: str, error: APIError) -> APIError:
    """The same of a field of `field`."""
    error.param = f"{field}.{error.param}" if error.param else field
    return error


def too_slow() -> APIError:
    headers = {"x-should-retry": "false"}  # it would take as long again
    return APIError("The answer took too long.", status=503, type="server_error", headers=headers)


def internal() -> APIError:
    return APIError("The server had an error while processing your request.", status=500, type="server_error")


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Any) -> M:
    """What a client sent as a model of ours. Raises APIError naming the first field at fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from None


# pydantic's error types, where the contract has a code of its own
_CODES = {
    "string_pattern_mismatch": "invalid_value",
    "string_too_long": "string_above_max_length",
    "string_too_short": "string_below_min_length",
    "too_long": "array_above_max_length",
    "too_short": "empty_array",
    "literal_error": "invalid_value",
    "union_tag_invalid": "invalid_value",
    "value_error": "invalid_value",
    "finite_number": "invalid_value",
}


def from_validation(error: ValidationError | RequestValidationError) -> APIError:
    """The first thing wrong with a request, in the contract's words."""
    first: Mapping[str, Any] = error.errors()[0]
    kind, context = first["type"], first.get("ctx", {})
    param = path(first["loc"])
    if kind.startswith("union_tag"):
        key = context["discriminator"].removesuffix("()")  # pydantic shows the name of the function that picks
        param = f"{param}.{key}" if param else key
    if param and kind in ("missing", "union_tag_not_found"):
        return missing(param)
    if kind == "extra_forbidden":
        *around, name = first["loc"]  # which may be empty, or look like a tag
        inside = path(around)
        return unknown(f"{inside}.{name}" if inside else str(name))
    if kind == "union_tag_invalid":
        expected = context["expected_tags"].replace("'<>', ", "").replace("<", "").replace(">", "")
        message = f"Invalid value for '{param}': supported values are {expected}."
    else:
        what = first["msg"].replace(" after validation", "").removesuffix(", not more")
        message = f"Invalid '{param}': {what[:1].lower()}{what[1:]}."
    return APIError(message, param=param, code=_code(kind, context))


def _code(kind: str, context: Mapping[str, Any]) -> str:
    if context.get("field_type") == "Dictionary":
        return "object_above_max_properties" if kind == "too_long" else "object_below_min_properties"
    for name, side in (("ge", "below_min"), ("gt", "below_min"), ("le", "above_max"), ("lt", "above_max")):
        if name in context:
            return f"{'integer' if isinstance(context[name], int) else 'decimal'}_{side}_value"
    return _CODES.get(kind, "invalid_type")


def path(location: Sequence[str | int]) -> str | None:
    """('messages', 0, '<user>', 'content') -> 'messages[0].content': names in angle brackets are union tags."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not (step.startswith("<") and step.endswith(">")):
            text += f".{step}" if text else step
    return text or None
