"""What a benchmark found as one line of JSON, which has no NaN: a figure that there is not is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_line(figures: Mapping[str, Any]) -> str:
    return json.dumps(_told(figures), allow_nan=False)


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _told(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_told(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
