"""The store, on SQLite in memory and in a file, and on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.platform.database import Database
from sensorium.platform.store import Item, Order, Store, StoredObject, UnknownCursor


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Store]:
    match request.param:
        case "memory":
            url = "sqlite://"
        case "sqlite":
            url = f"sqlite:///{tmp_path}/state.db"
        case _:
            url = request.getfixturevalue("new_postgres")()
    database = Database.open(url)
    yield Store(database)
    database.close()


def made(id: str, **fields) -> StoredObject:
    return StoredObject(**{"kind": "response", "id": id, "project": "p", "created_at": 7, "body": {"id": id}} | fields)


async def ids(store: Store, **how) -> list[str]:
    return [found.id for found in (await store.list("response", "p", **how)).data]


async def test_an_object_comes_back_as_it_was_put(store: Store):
    body = {"text": "Grüße \0 \ud800 😀", "numbers": [1, 2.5, None, True], "deep": {"": {}}}
    put = made("a", body=body, metadata={"k": "v\0", "\ud800": "😀"}, model="gpt-4o", expires_at=2**40)
    await store.put(put)
    assert await store.get("response", "a", "p") == put
    assert await store.get("response", "a", "q") is None
    assert await store.get("conversation", "a", "p") is None


async def test_bytes_are_summed_by_kind_and_project(store: Store):
    assert await store.total("response", "p") == (0, 0)
    for number, other in enumerate(({}, {"project": "q"}, {"kind": "file"}, {"expires_at": 1}, {"num_bytes": 2**40})):
        await store.put(made(f"id_{number}", **{"num_bytes": 100, **other}))
    assert await store.total("response", "p") == (2, 2**40 + 100)
    await store.put(made("id_0", num_bytes=7))
    await store.delete("response", "id_4", "p")
    assert await store.total("response", "p") == (1, 7)


async def test_the_same_id_in_two_projects_is_two_objects(store: Store):
    await store.put(made("a", body={"whose": "p"}))
    await store.put(made("a", body={"whose": "q"}, project="q"))
    assert await store.delete("response", "a", "q")
    found = await store.get("response", "a", "p")
    assert found is not None
    assert found.body == {"whose": "p"}


async def test_putting_again_writes_over_it_and_keeps_its_place(store: Store):
    for id in "abc":
        await store.put(made(id, metadata={"old": "1"}), [Item("i", {"of": id})])
    await store.put(made("b", body={"new": True}, metadata={"new": "1"}))
    assert await ids(store) == ["a", "b", "c"]
    assert await ids(store, metadata={"old": "1"}) == ["a", "c"]
    assert await ids(store, metadata={"new": "1"}) == ["b"]
    assert await store.item("response", "b", "p", "i") == Item("i", {"of": "b"})
    await store.put(made("b"), [])
    assert await store.item("response", "b", "p", "i") is None


async def test_deleting_takes_items_and_labels_along(store: Store):
    await store.put(made("a", metadata={"k": "v"}), [Item("i", {})])
    assert await store.delete("response", "a", "p")
    assert not await store.delete("response", "a", "p")
    assert await store.get("response", "a", "p") is None
    assert await store.items("response", "a", "p") is None
    await store.put(made("a"))
    assert await store.items("response", "a", "p") == ([], False)
    assert await ids(store, metadata={"k": "v"}) == []


async def test_pages_in_both_directions(store: Store):
    created = {"a": 3, "b": 1, "c": 2, "d": 2, "e": 2, "f": 9}
    for id, at in created.items():
        await store.put(made(id, created_at=at))
    await store.put(made("other", kind="conversation"))
    orders: list[tuple[Order, list[str]]] = [("asc", list("bcdeaf")), ("desc", list("faedcb"))]
    for order, whole in orders:
        for limit in range(1, 8):
            seen: list[str] = []
            while True:
                after = seen[-1] if seen else None
                page = await store.list("response", "p", after=after, limit=limit, order=order)
                seen += [found.id for found in page.data]
                if not page.has_more:
                    break
                assert len(page.data) == limit
            assert seen == whole
    assert await store.list("response", "p", after="f") == ([], False)
    for unknown in ("nothing", "other", "", "\0", "x" * 10_000, "\ud800"):
        with pytest.raises(UnknownCursor):
            await store.list("response", "p", after=unknown)


async def test_filters_are_all_obeyed_together(store: Store):
    await store.put(made("a", model="m", metadata={"x": "1", "y": "1"}))
    await store.put(made("b", model="m", metadata={"x": "1", "y": "2"}))
    await store.put(made("c", model="n", metadata={"x": "1"}))
    await store.put(made("d", metadata={"x": "y", "1": "1"}))
    assert await ids(store, model="m") == ["a", "b"]
    assert await ids(store, metadata={"x": "1"}) == ["a", "b", "c"]
    assert await ids(store, metadata={"x": "1", "y": "2"}) == ["b"]
    assert await ids(store, model="n", metadata={"x": "1"}) == ["c"]
    assert await ids(store, metadata={"x": "1", "z": "1"}) == []
    assert await ids(store, metadata={"x": "y"}) == ["d"]
    assert await ids(store, model="\0") == []
    assert await ids(store, metadata={"\0": "\ud800"}) == []
    page = await store.list("response", "p", metadata={"x": "1"}, limit=2)
    assert (page.has_more, page.data[0].metadata) == (True, {"x": "1", "y": "1"})
    assert await ids(store, metadata={"x": "1"}, after="b") == ["c"]


async def test_items_keep_their_order(store: Store):
    await store.put(made("a"), [Item("z", {"n": 0}), Item("b", {"n": 1})])
    assert await store.append("response", "a", "p", [Item("a", {"n": 2}), Item("y", {"n": 3})])
    page = await store.items("response", "a", "p")
    assert page == ([Item("z", {"n": 0}), Item("b", {"n": 1}), Item("a", {"n": 2}), Item("y", {"n": 3})], False)
    page = await store.items("response", "a", "p", order="desc", limit=2)
    assert page is not None
    assert ([item.id for item in page.data], page.has_more) == (["y", "a"], True)
    page = await store.items("response", "a", "p", order="desc", limit=2, after="a")
    assert page is not None
    assert ([item.id for item in page.data], page.has_more) == (["b", "z"], False)
    assert await store.item("response", "a", "p", "a") == Item("a", {"n": 2})
    assert await store.delete_item("response", "a", "p", "a")
    assert not await store.delete_item("response", "a", "p", "a")
    assert await store.item("response", "a", "p", "a") is None
    assert await store.append("response", "a", "q", [Item("q", {})]) is False
    assert await store.item("response", "a", "q", "z") is None
    with pytest.raises(UnknownCursor):
        await store.items("response", "a", "p", after="a")
    with pytest.raises(ValueError, match="'b' already"):
        await store.append("response", "a", "p", [Item("new", {}), Item("b", {})])
    with pytest.raises(ValueError, match="same id"):
        await store.append("response", "a", "p", [Item("new", {}), Item("new", {})])
    assert await store.item("response", "a", "p", "new") is None


async def test_appends_at_once_do_not_mingle(store: Store):
    await store.put(made("a"))
    groups = [[Item(f"{group}.{place}", {}) for place in range(5)] for group in range(12)]
    assert all(await asyncio.gather(*(store.append("response", "a", "p", group) for group in groups)))
    page = await store.items("response", "a", "p", limit=100)
    assert page is not None
    order = [item.id for item in page.data]
    assert sorted(order) == sorted(item.id for group in groups for item in group)
    for group in groups:
        start = order.index(group[0].id)
        assert order[start : start + 5] == [item.id for item in group]


async def test_updates_at_once_are_all_kept(store: Store):
    await store.put(made("a", body={"count": 0}, metadata={"n": "0"}))

    def count(old: StoredObject) -> StoredObject:
        number = old.body["count"] + 1
        return replace(old, body={"count": number}, metadata={"n": str(number)}, project="elsewhere", created_at=99)

    await asyncio.gather(*(store.update("response", "a", "p", count) for _ in range(40)))
    found = await store.get("response", "a", "p")
    assert found is not None
    assert (found.body, found.created_at) == ({"count": 40}, 7)
    assert await ids(store, metadata={"n": "40"}) == ["a"]
    assert await ids(store, metadata={"n": "39"}) == []
    assert await store.update("response", "none", "p", count) is None


async def test_what_has_expired_is_not_there(store: Store):
    now = int(time.time())
    await store.put(made("old", expires_at=now - 1), [Item("i", {})])
    await store.put(made("new", expires_at=now + 1000))
    assert await store.get("response", "old", "p") is None
    assert await store.items("response", "old", "p") is None
    assert await ids(store) == ["new"]


@pytest.mark.parametrize("id", ["", "\0", "a\0b", "\udfff", "x" * 513])
async def test_ids_that_no_database_holds(id: str, store: Store):
    with pytest.raises(ValueError, match="an id must be"):
        await store.put(made(id))
    await store.put(made("a"))
    with pytest.raises(ValueError, match="an id must be"):
        await store.append("response", "a", "p", [Item(id, {})])
    assert await store.get("response", id, "p") is None
    assert await store.item("response", "a", "p", id) is None
    assert not await store.delete("response", id, "p")


async def test_the_longest_id_is_stored(store: Store):
    await store.put(made("😀" * 512), [Item("é" * 512, {})])
    assert await store.item("response", "😀" * 512, "p", "é" * 512) is not None


async def test_memory_has_a_bound():
    database = Database.open()
    store = Store(database, max_memory_bytes=4 * 2**20)
    for number in range(300):
        await store.put(made(f"r{number}", created_at=number, body={"text": "x" * 50_000}), [Item("i", {})])
    kept = await ids(store, limit=1000)
    assert 20 < len(kept) < 100
    assert kept[-1] == "r299"
    database.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
texts = st.text(st.characters(), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(id=texts, body=st.dictionaries(st.text(), json_values, max_size=4), metadata=st.dictionaries(texts, texts))
def test_anything_a_client_may_send(store: Store, id: str, body: dict, metadata: dict[str, str]):
    async def there_and_back() -> None:
        try:
            await store.put(made(id, body=body, metadata=metadata), [Item("i", body)])
        except ValueError:
            assert not id or "\0" in id or any("\ud800" <= char <= "\udfff" for char in id)
            assert await store.get("response", id, "p") is None
            return
        found = await store.get("response", id, "p")
        assert found is not None
        assert (found.body, found.metadata) == (body, metadata)
        assert id in await ids(store, metadata=metadata, limit=1000)
        assert await store.item("response", id, "p", "i") == Item("i", body)

    asyncio.run(there_and_back())
