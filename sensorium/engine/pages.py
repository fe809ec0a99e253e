"""Keys and values of all streams in one pool of pages, as memory of a computer is shared (vLLM, arXiv 2309.06180).

A page holds PAGE_POSITIONS positions of all layers. Streams with a common beginning share its pages: a fork copies
nothing. A full page has a name, a digest of all that the stream holds up to its end, and keeps it when no stream needs
it any more: until its memory is wanted, a stream that begins alike may take it up instead of computing it.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque

import numpy as np

from sensorium.engine.kernels import LANES
from sensorium.model.config import HEAD_DIM, ModelConfig

PAGE_POSITIONS = LANES  # a page's scores are one vector


class OutOfPages(Exception):
    """All pages are in use."""


class PagePool:
    """The pages, and who uses them. Belongs to the engine's thread, except that caches may be dropped anywhere."""

    def __init__(self, config: ModelConfig, *, num_positions: int) -> None:
        """`num_positions` in all; memory is taken as they are first used. Raises ValueError for fewer than two contexts
        of them: a picture is drawn from two streams at once."""
        if num_positions < 2 * config.max_seq_len:
            raise ValueError(f"{num_positions} cached positions cannot hold two contexts of {config.max_seq_len}")
        num_pages = -(-num_positions // PAGE_POSITIONS)
        heads = (num_pages, config.num_layers, config.num_heads)
        self.keys = np.zeros((*heads, HEAD_DIM, PAGE_POSITIONS), np.uint16)  # bfloat16 bits, as the kernels read them
        self.values = np.zeros((*heads, PAGE_POSITIONS, HEAD_DIM), np.uint16)
        self.pages_per_context = -(-config.max_seq_len // PAGE_POSITIONS)
        self._users = np.zeros(num_pages, np.int32)
        self._free = list(reversed(range(num_pages)))
        self._unused: OrderedDict[int, None] = OrderedDict()  # named pages that nobody uses, the longest unused first
        self._named: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}
        self._dropped: deque[list[int]] = deque()  # what caches held that are gone
        self.clock = 0  # counts what was computed
        self.num_preempted = 0  # streams that had to give way
        self.caches: weakref.WeakSet[PagedCache] = weakref.WeakSet()

    @property
    def num_pages(self) -> int:
        return len(self._users)

    @property
    def num_used(self) -> int:
        """Pages that some stream needs."""
        self._collect()
        return len(self._users) - len(self._free) - len(self._unused)

    @property
    def num_kept(self) -> int:
        """Pages that no stream needs, kept for one that begins alike."""
        self._collect()
        return len(self._unused)

    @property
    def num_bytes(self) -> int:
        """What the pool may grow to."""
        return self.keys.nbytes + self.values.nbytes

    def take(self) -> int:
        """An empty page. Raises OutOfPages."""
        self._collect()
        if self._free:
            page = self._free.pop()
        elif self._unused:
            page, _ = self._unused.popitem(last=False)
            self.forget_name(page)
        else:
            raise OutOfPages
        self._users[page] = 1
        return page

    def share(self, page: int) -> None:
        self._unused.pop(page, None)
        self._users[page] += 1

    def give_back(self, page: int) -> None:
        self._users[page] -= 1
        assert self._users[page] >= 0, page
        if self._users[page]:
            return
        if page in self._name_of:
            self._unused[page] = None
        else:
            self._free.append(page)

    def is_shared(self, page: int) -> bool:
        return self._users[page] > 1

    def copied(self, page: int) -> int:
        """A private twin of a page, which is given back. Raises OutOfPages."""
        twin = self.take()
        self.keys[twin], self.values[twin] = self.keys[page], self.values[page]
        self.give_back(page)
        return twin

    def name(self, page: int, name: bytes) -> None:
        """Says what a full page holds. The first page of a name keeps it."""
        if name not in self._named:
            self.forget_name(page)
            self._named[name] = page
            self._name_of[page] = name

    def forget_name(self, page: int) -> None:
        """It will be written over."""
        name = self._name_of.pop(page, None)
        if name is not None:
            del self._named[name]

    def find(self, name: bytes) -> int | None:
        self._collect()
        return self._named.get(name)

    def drop_later(self, pages: list[int]) -> None:
        """From any thread: these pages had a user, who is gone."""
        self._dropped.append(pages)

    def _collect(self) -> None:
        while self._dropped:
            for page in self._dropped.popleft():
                self.give_back(page)


class PagedCache:
    """Keys and values of one stream's positions 0 .. length, in pages."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.length = 0
        self.last_used = 0  # by the pool's clock
        self.pages: list[int] = []  # in the order of the stream
        weakref.finalize(self, pool.drop_later, self.pages).atexit = False

    @property
    def num_pages(self) -> int:
        return len(self.pages)

    def reserve(self, count: int) -> None:
        """Room to write `count` more positions. Raises OutOfPages; what was reserved before that is kept."""
        self.pool.caches.add(self)
        self.pool.clock += 1
        self.last_used = self.pool.clock
        number, slot = divmod(self.length, PAGE_POSITIONS)
        if slot:  # others may read the page that is to be written on
            if self.pool.is_shared(self.pages[number]):
                self.pages[number] = self.pool.copied(self.pages[number])
            self.pool.forget_name(self.pages[number])
        while len(self.pages) * PAGE_POSITIONS < self.length + count:
            self.pages.append(self.pool.take())

    def advance(self, count: int) -> None:
        self.length += count
        assert self.length <= len(self.pages) * PAGE_POSITIONS

    def adopt(self, name: bytes) -> bool:
        """Takes up a page behind a whole number of pages, if the pool has one of that name."""
        assert self.length % PAGE_POSITIONS == 0
        page = self.pool.find(name)
        if page is None:
            return False
        self.truncate(self.length)  # pages reserved, but not written
        self.pool.share(page)
        self.pages.append(page)
        self.length += PAGE_POSITIONS
        return True

    def name(self, number: int, name: bytes) -> None:
        """Full page `number` may be taken up by others from now on."""
        self.pool.name(self.pages[number], name)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        self.length = length
        while (len(self.pages) - 1) * PAGE_POSITIONS >= length and self.pages:
            self.pool.give_back(self.pages.pop())

    def give_way(self) -> None:
        """Gives back all pages, since others need them more."""
        self.pool.num_preempted += 1
        self.truncate(0)

    def fork(self) -> PagedCache:
        self.truncate(self.length)
        twin = PagedCache(self.pool)
        for page in self.pages:
            self.pool.share(page)
        twin.pages += self.pages
        twin.length = self.length
        twin.pool.caches.add(twin)
        return twin
