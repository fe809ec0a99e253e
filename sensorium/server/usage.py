"""GET /v1/organization/usage/... and /costs: what was used, in buckets of time.

Use is written down by the minute (`sensorium/platform/usage.py`): a range begins and ends with the full minutes around
it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from fastapi import APIRouter, Request
from pydantic import Field

from sensorium.platform.usage import Filter, Group, Modality, PriceList, Sum, UsageKind, UsageLog
from sensorium.server.errors import invalid, unsupported
from sensorium.server.query import Query, read_query

Json = dict[str, Any]
Texts = Annotated[list[str], Field(default_factory=list)]
Second = Annotated[int, Field(ge=0, le=2**40)]

_WIDTHS_S = {"1m": 60, "1h": 3600, "1d": 86_400}
_BUCKETS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # by default, and at most
_MAX_COST_BUCKETS = 180
_PAGE = "page_"

# parameter -> what is asked of the log; the others are the same for everything that is used here
_COLUMNS: Mapping[str, Group] = {
    "project_id": "project",
    "api_key_id": "api_key",
    "model": "model",
    "batch": "batch",
    "size": "size",
    "source": "source",
}
_CONSTANT = {"user_id": None, "service_tier": "default", "api_source": "unlabeled"}
_MODALITIES: tuple[Modality, ...] = ("text", "audio", "image")
_UNITS = {"characters": "characters", "seconds": "duration_seconds", "images": "images"}


class _Range(Query):
    start_time: Second
    end_time: Second | None = None
    project_ids: Texts
    limit: Annotated[int, Field(ge=1)] | None = None
    page: str | None = None


class _KeysRange(_Range):
    user_ids: Texts
    api_key_ids: Texts


class UsageQuery(_KeysRange):
    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    models: Texts


class AudioQuery(UsageQuery):
    group_by: Annotated[list[Literal["project_id", "user_id", "api_key_id", "model"]], Field(default_factory=list)]


class CompletionsQuery(UsageQuery):
    batch: bool | None = None
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"]],
        Field(default_factory=list),
    ]


class ImagesQuery(UsageQuery):
    sizes: Texts
    sources: Texts
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "model", "size", "source"]], Field(default_factory=list)
    ]


class ProjectsQuery(_Range):
    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    group_by: Annotated[list[Literal["project_id"]], Field(default_factory=list)]


class FileSearchQuery(_KeysRange):
    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    vector_store_ids: Texts
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "vector_store_id"]], Field(default_factory=list)
    ]


class WebSearchQuery(UsageQuery):
    context_levels: Annotated[list[Literal["low", "medium", "high"]], Field(default_factory=list)]
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "model", "context_level"]], Field(default_factory=list)
    ]


class CostsQuery(_KeysRange):
    bucket_width: Literal["1d"] = "1d"
    line_items: Texts
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "line_item", "api_source"]], Field(default_factory=list)
    ]


_UnusedQuery: TypeAlias = AudioQuery | ProjectsQuery | FileSearchQuery | WebSearchQuery

# what is never used here, for there is none: its buckets are empty
_UNUSED: Mapping[str, type[_UnusedQuery]] = {
    "moderations": AudioQuery,
    "vector_stores": ProjectsQuery,
    "code_interpreter_sessions": ProjectsQuery,
    "file_search_calls": FileSearchQuery,
    "web_search_calls": WebSearchQuery,
}


class _Buckets(NamedTuple):
    """The buckets of one page."""

    starts: range
    start_s: int  # of what is counted
    end_s: int
    next_page: str | None


class UsageReports:
    def __init__(self, log: UsageLog, prices: PriceList) -> None:
        self._log = log
        self._prices = prices

    def routes(self) -> APIRouter:
        router = APIRouter()
        for name, answer in (
            ("usage/completions", self.completions),
            ("usage/embeddings", self.embeddings),
            ("usage/audio_speeches", self.audio_speeches),
            ("usage/audio_transcriptions", self.audio_transcriptions),
            ("usage/images", self.images),
            ("costs", self.costs),
        ):
            router.add_api_route(f"/v1/organization/{name}", answer, methods=["GET"])
        for name, query in _UNUSED.items():
            router.add_api_route(f"/v1/organization/usage/{name}", _unused(query), methods=["GET"])
        return router

    async def completions(self, http: Request) -> Json:
        asked = read_query(http, CompletionsQuery)
        return await self._report("completions", asked, asked.group_by)

    async def embeddings(self, http: Request) -> Json:
        asked = read_query(http, AudioQuery)
        return await self._report("embeddings", asked, asked.group_by)

    async def audio_speeches(self, http: Request) -> Json:
        asked = read_query(http, AudioQuery)
        return await self._report("audio_speeches", asked, asked.group_by)

    async def audio_transcriptions(self, http: Request) -> Json:
        asked = read_query(http, AudioQuery)
        return await self._report("audio_transcriptions", asked, asked.group_by)

    async def images(self, http: Request) -> Json:
        asked = read_query(http, ImagesQuery)
        return await self._report("images", asked, asked.group_by)

    async def costs(self, http: Request) -> Json:
        asked = read_query(http, CostsQuery)
        buckets = _buckets(asked, "1d", default=7, most=_MAX_COST_BUCKETS)
        filter = Filter(projects=asked.project_ids, api_keys=asked.api_key_ids)
        groups = _columns([*asked.group_by, "model"])  # prices are by model
        width_s = buckets.starts.step
        sums = await self._log.sums(None, buckets.start_s, buckets.end_s, width_s, group_by=groups, filter=filter)
        by_group: dict[tuple[Any, ...], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for used in sums:
            for item, (quantity, cost) in self._prices.costs(used.model or "", used.used).items():
                line_item = f"{used.model}, {item}"
                if asked.line_items and line_item not in asked.line_items:
                    continue
                key = (
                    used.start_time,
                    used.project,
                    used.api_key,
                    line_item if "line_item" in asked.group_by else None,
                )
                so_far = by_group[key]
                by_group[key] = so_far[0] + quantity, so_far[1] + cost
        results: dict[int, list[Json]] = defaultdict(list)
        for (start_time, project, api_key, line_item), (quantity, cost) in by_group.items():
            results[start_time].append(
                {
                    "object": "organization.costs.result",
                    "amount": {"value": cost, "currency": self._prices.currency},
                    "line_item": line_item,
                    "project_id": project,
                    "api_key_id": api_key or None,
                    **_constants(asked.group_by, ("user_id", "api_source")),
                    "quantity": quantity if line_item else None,
                    "quantity_unit": _UNITS.get(line_item.rpartition(", ")[2], "tokens") if line_item else None,
                }
            )
        return _page_body(buckets, results)

    async def _report(self, kind: UsageKind, asked: UsageQuery, group_by: Sequence[str]) -> Json:
        buckets = _usage_buckets(asked, asked.bucket_width)
        filter = Filter(
            projects=asked.project_ids,
            api_keys=asked.api_key_ids,
            models=asked.models,
            sizes=getattr(asked, "sizes", ()),
            sources=getattr(asked, "sources", ()),
            batch=getattr(asked, "batch", None),
        )
        groups = _columns(group_by)
        sums = await self._log.sums(
            kind, buckets.start_s, buckets.end_s, buckets.starts.step, group_by=groups, filter=filter
        )
        results: dict[int, list[Json]] = defaultdict(list)
        for used in sums:
            results[used.start_time].append(_result(used, kind, group_by))
        return _page_body(buckets, results)


def _unused(query: type[_UnusedQuery]) -> Callable[[Request], Coroutine[Any, Any, Json]]:
    async def answer(http: Request) -> Json:
        asked = read_query(http, query)
        return _page_body(_usage_buckets(asked, asked.bucket_width), {})

    return answer


def _columns(group_by: Sequence[str]) -> list[Group]:
    return list(dict.fromkeys(_COLUMNS[name] for name in group_by if name in _COLUMNS))


def _usage_buckets(asked: _Range, width: str) -> _Buckets:
    default, most = _BUCKETS[width]
    return _buckets(asked, width, default=default, most=most)


def _buckets(asked: _Range, width: str, *, default: int, most: int) -> _Buckets:
    """Raises APIError for a range or a page that makes no sense."""
    if isinstance(asked, _KeysRange) and asked.user_ids:
        raise unsupported("user_ids", "keys of this server belong to projects, not to users")
    if asked.limit is not None and asked.limit > most:
        raise invalid(f"With buckets of {width} 'limit' is {most} at most.", "limit", "integer_above_max_value")
    end_s = int(time.time()) + 1 if asked.end_time is None else asked.end_time
    if asked.end_time is not None and asked.end_time <= asked.start_time:
        raise invalid("'end_time' must be after 'start_time'.", "end_time")
    width_s = _WIDTHS_S[width]
    first = asked.start_time - asked.start_time % width_s
    if asked.page is not None:
        told = asked.page.removeprefix(_PAGE)
        if not (asked.page.startswith(_PAGE) and told.isascii() and told.isdigit() and len(told) < 16):
            raise invalid("'page' is not a 'next_page' of this server.", "page")
        first = int(told)
        if first % width_s or first < asked.start_time:
            raise invalid("'page' belongs to another query.", "page")
    beyond = first + width_s * (asked.limit or default)
    starts = range(first, min(beyond, end_s), width_s)
    start_s = max(first, asked.start_time - asked.start_time % 60)
    return _Buckets(starts, start_s, min(beyond, end_s), f"{_PAGE}{beyond}" if beyond < end_s else None)


def _page_body(buckets: _Buckets, results: Mapping[int, list[Json]]) -> Json:
    width_s = buckets.starts.step
    data = [
        {"object": "bucket", "start_time": start, "end_time": start + width_s, "results": results.get(start, [])}
        for start in buckets.starts
    ]
    return {"object": "page", "data": data, "has_more": buckets.next_page is not None, "next_page": buckets.next_page}


def _result(used: Sum, kind: UsageKind, group_by: Sequence[str]) -> Json:
    figures = used.used
    body: Json = {
        "object": f"organization.usage.{kind}.result",
        "num_model_requests": figures.requests,
        "project_id": used.project,
        "api_key_id": used.api_key or None,
        "model": used.model,
        **_constants(group_by, ("user_id",)),
    }
    match kind:
        case "completions":
            return body | {
                "input_tokens": figures.input_tokens,
                "input_cached_tokens": figures.cached,
                "input_uncached_tokens": sum(map(figures.uncached, _MODALITIES)),
                **{f"input_{modality}_tokens": figures.uncached(modality) for modality in _MODALITIES},
                **{
                    f"input_cached_{modality}_tokens": getattr(figures, f"cached_{modality}")
                    for modality in _MODALITIES
                },
                "output_tokens": figures.output_tokens,
                "output_text_tokens": figures.output_text,
                "output_audio_tokens": figures.output_audio,
                "output_image_tokens": figures.output_image,
                "batch": used.batch,
                **_constants(group_by, ("service_tier", "api_source")),
            }
        case "embeddings":
            return body | {"input_tokens": figures.input_tokens}
        case "audio_speeches":
            return body | {"characters": figures.characters}
        case "audio_transcriptions":
            return body | {"seconds": round(figures.audio_ms / 1000)}
        case "images":
            return body | {"images": figures.images, "size": used.size, "source": used.source}


def _constants(group_by: Sequence[str], names: Sequence[str]) -> Json:
    return {name: _CONSTANT[name] if name in group_by else None for name in names}
