"""Query strings as clients write them."""

from __future__ import annotations

import contextlib
from typing import Literal

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from sensorium.server.errors import APIError
from sensorium.server.query import Query, read_query


class Asked(Query):
    start: int | None = None
    batch: bool | None = None
    group_by: list[Literal["a", "b", "c"]] = Field(default_factory=list)
    metadata: dict[str, str] = Field(default_factory=dict)


def read(query: str) -> Asked:
    return read_query(Request({"type": "http", "query_string": query.encode("utf-8", "replace")}), Asked)


def test_every_spelling_of_the_official_clients():
    assert read("") == Asked()
    asked = read("start=5&batch=true&group_by[]=a&group_by%5B%5D=b&group_by=c&metadata[k]=v&metadata%5Ba.b%20c%5D=")
    assert asked == Asked(start=5, batch=True, group_by=["a", "b", "c"], metadata={"k": "v", "a.b c": ""})


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("strat=5", "strat", "unknown_parameter"),
        ("start=x", "start", "invalid_type"),
        ("start=1.5", "start", "invalid_type"),
        ("start=5&start=6", "start", "invalid_value"),
        ("start[]=5", "start", "invalid_value"),
        ("start[x]=5", "start", "invalid_value"),
        ("group_by[]=d", "group_by[0]", "invalid_value"),
        ("group_by[0]=a", "group_by", "invalid_value"),
        ("metadata=x", "metadata", "invalid_value"),
        ("metadata[k]=1&metadata[k]=2", "metadata[k]", "invalid_value"),
        ("group_by[[]]=a", "group_by", "invalid_value"),
        ("nothing[]=a", "nothing[]", "unknown_parameter"),
        ("[]=a", "[]", "unknown_parameter"),
    ],
)
def test_what_cannot_be_obeyed_is_named(query: str, param: str, code: str):
    with pytest.raises(APIError) as caught:
        read(query)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


pieces = st.sampled_from(
    ["start", "batch", "group_by", "metadata", "[", "]", "[]", "[k]", "=", "&", "5", "%5B", "%", "é"]
)


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=40))
def test_any_query_is_read_or_refused(query: str):
    with contextlib.suppress(APIError):
        read(query)
