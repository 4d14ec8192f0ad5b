"""Calls of Milvus that either work or say in our words why not, in messages of a size it takes."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import grpc
from pymilvus import AsyncMilvusClient, MilvusException
from pymilvus.exceptions import ConnectionConfigException

from improvement_service.domain.errors import CollectionNotFound
from improvement_service.vectors import messages, schema
from improvement_service.vectors.calls import Calls
from improvement_service.vectors.side_by_side import side_by_side
from tideline.errors import DependencyUnavailable, Misconfigured
from tideline.rpc import deadline
from tideline.rpc.breaker import Breaker
from tideline.rpc.commands import reported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

    from pymilvus.milvus_client import IndexParams

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.schema import Row

MOST_HITS: Final = 16_384
"""The most rows that one search or one query returns."""
ROWS_A_WRITE: Final = 1_000
"""Milvus Lite takes quadratic time in this: 0.1 s for 1,000 rows, 120 s for 10,000."""
KEYS_A_FILTER: Final = 1_000
WRITES_AT_ONCE: Final = 2
"""One is packed while the server works on the other."""
READS_AT_ONCE: Final = 4
"""A server makes reads that see all writes wait for its clock, 0.2 s: they wait together."""

_NOT_FOUND, _NOT_LOADED = 100, 101
_OUR_DEFECTS: Final = range(1100, 1200)


class Connection:
    """A connection to a Milvus server or, where `uri` is a path that ends in `.db`, to Milvus Lite."""

    def __init__(self, uri: str, token: str, timeout_s: float, index_type: str) -> None:
        """Prepare a connection; it is made by the first call. Must be called on the event loop that uses it.

        Raises `Misconfigured` when the file cannot be opened, or `uri` is none.
        """
        # Its logger repeats, in its own format, every error that is raised.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._lite = uri.endswith(".db")
        self._client = _client(uri, token, timeout_s, lite=self._lite)
        self._calls = Calls(self._client)
        self._timeout_s = timeout_s
        self._index_type = index_type or ("FLAT" if self._lite else "HNSW")
        self._creating: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._breaker = Breaker("the vector database")

    async def close(self) -> None:
        await self._client.close()

    async def clock(self) -> int:
        """Return the time on the clock of Milvus; 0 on Milvus Lite, which has none."""
        return int(await self._call(self._calls.clock, "clock"))

    async def ping(self) -> None:
        """Ask something cheap; raises `DependencyUnavailable` when there is no answer."""
        await self._call(self._client.has_collection, "ping")

    async def ensure(self, name: str, index: SearchIndex, *, searched: bool = True) -> None:
        """Create a collection for vectors of `index`, its indexes, and load it; what is done already is passed over.

        What is not `searched` is spared the building of a graph.
        """
        # Building and loading an index may take longer than a read.
        patience_s = max(self._timeout_s, 60.0)
        async with self._creating[name]:
            if not await self._call(self._client.has_collection, name):
                fields = schema.collection_schema(index)
                await self._call(self._client.create_collection, name, schema=fields, timeout=patience_s)
            indexes = self._indexes(index, self._index_type if searched else "FLAT")
            if len(await self._call(self._client.list_indexes, name)) < len(indexes):
                # The client looks twice a second whether an index is there.
                calls = (
                    self._call(self._client.create_index, name, index_params=one, timeout=patience_s) for one in indexes
                )
                await side_by_side(calls, len(indexes))
            await self._call(self._client.load_collection, name, timeout=patience_s)

    async def drop(self, name: str) -> None:
        """Drop a collection; one that is not there is passed over."""
        await self._call(self._client.drop_collection, name)

    async def write(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows, or replace those with their primary keys, each of which comes once.

        They go in messages side by side: when this raises, any of them may be written.
        """
        calls = (self._call(self._calls.upsert, name, rows=some) for some in messages.of_rows(rows, ROWS_A_WRITE))
        await side_by_side(calls, WRITES_AT_ONCE)

    async def delete(self, name: str, keys: Sequence[str]) -> None:
        """Delete the rows with these primary keys; those that are not there are passed over."""
        calls = (self._call(self._client.delete, name, ids=some) for some in messages.chunks(keys, KEYS_A_FILTER))
        await side_by_side(calls, WRITES_AT_ONCE)

    async def read(
        self, name: str, condition: str, fields: Sequence[str], *, dimension: int = 0, written_until: int = 0
    ) -> list[Row]:
        """Return all rows that meet `condition`, whoever wrote them: until now or, much faster, until a given time.

        `dimension` is given when `vector` is asked for: it decides how many rows fit a message.
        """
        pages = self.pages(name, condition, fields, dimension=dimension, written_until=written_until)
        return [row async for page in pages for row in page]

    async def pages(
        self, name: str, condition: str, fields: Sequence[str], *, dimension: int = 0, written_until: int = 0
    ) -> AsyncGenerator[list[Row], None]:
        """Yield what `read` returns, as much at a time as fits a message."""
        limit = min(MOST_HITS, messages.rows_that_fit(("pk", *fields), dimension))
        page: list[Row] = []
        while True:
            # Pages come in the order of the primary key.
            after = f'{condition} and pk > "{page[-1]["pk"]}"' if page else condition
            page = await self._call(
                self._calls.query,
                name,
                condition=after,
                fields=["pk", *fields],
                limit=limit,
                written_until=written_until,
            )
            if page:
                yield page
            if len(page) < limit:
                return

    async def read_many(
        self,
        name: str,
        field: str,
        hashes: Sequence[str],
        condition: str,
        fields: Sequence[str],
        *,
        dimension: int = 0,
        written_until: int = 0,
    ) -> list[Row]:
        """Return all rows that meet `condition` and whose `field` is one of `hashes`."""
        conditions = (
            f"{schema.one_of(field, some)} and {condition}" for some in messages.chunks(hashes, KEYS_A_FILTER)
        )
        reads = (
            self.read(name, which, fields, dimension=dimension, written_until=written_until) for which in conditions
        )
        return [row for rows in await side_by_side(reads, READS_AT_ONCE) for row in rows]

    async def search(
        self, name: str, query: Floats, condition: str, fields: Sequence[str], *, limit: int
    ) -> list[tuple[float, Row]]:
        """Return the nearest rows that meet `condition` with what Milvus says of their distance, nearest first.

        What this process wrote is seen; what others wrote, a moment later.
        """
        found: list[tuple[float, Row]] = await self._call(
            self._calls.search,
            name,
            query=query,
            condition=condition,
            fields=fields,
            limit=limit,
            parameters={"ef": max(64, limit)} if self._index_type == "HNSW" else {},
        )
        return found

    def _indexes(self, index: SearchIndex, kind: str) -> list[IndexParams]:
        parameters = {"M": 16, "efConstruction": 200} if kind == "HNSW" else {}
        of_vector = {"index_type": kind, "metric_type": schema.METRICS[index.metric], "params": parameters}
        wanted: dict[str, dict[str, Any]] = {"vector": of_vector}
        if not self._lite:
            wanted |= {field: {"index_type": "Trie"} for field in ("owner", "object_key")}
        indexes = []
        for field, of_field in wanted.items():
            indexes.append(AsyncMilvusClient.prepare_index_params())
            indexes[-1].add_index(field, **of_field)
        return indexes

    async def _call(self, method: Callable[..., Awaitable[Any]], name: str, **arguments: Any) -> Any:
        """Call a method of the client on a collection, for as long as our own caller waits."""
        with self._breaker.watching():
            return await self._try(method, name, **{"timeout": deadline.at_most(self._timeout_s)} | arguments)

    async def _try(self, method: Callable[..., Awaitable[Any]], name: str, **arguments: Any) -> Any:
        try:
            with reported("milvus", method.__name__, name):
                return await method(name, **arguments)
        except (MilvusException, grpc.RpcError) as error:
            if not (isinstance(error, MilvusException) and error.code == _NOT_LOADED):
                raise _in_our_words(error) from error
        # After a restart of Milvus nothing is loaded.
        try:
            await self._client.load_collection(name, timeout=max(self._timeout_s, 60.0))
            with reported("milvus", method.__name__, name):
                return await method(name, **arguments)
        except (MilvusException, grpc.RpcError) as error:
            raise _in_our_words(error) from error


def _client(uri: str, token: str, timeout_s: float, *, lite: bool) -> AsyncMilvusClient:
    # The embedded one hangs up on who asks more often than every five minutes whether it is there. A server is asked
    # every ten seconds by pymilvus; gRPC's core goes by a time of its own for the answer, which is a minute.
    pings = {"grpc.keepalive_time_ms": 2**31 - 1} if lite else {"grpc.http2.ping_timeout_ms": 5_000}
    try:
        return AsyncMilvusClient(uri, token=token, timeout=timeout_s, dedicated=True, grpc_options=pings)
    except (ConnectionConfigException, RuntimeError) as error:
        if not lite:
            # What it says quotes all of it, and a password may be in it.
            raise Misconfigured("IMPROVEMENT_MILVUS_URI is no address, and no path that ends in .db") from None
        said = error.message if isinstance(error, MilvusException) else error
        raise Misconfigured(f"IMPROVEMENT_MILVUS_URI={uri}: {said}; one process at a time can open it") from error


def _in_our_words(error: Exception) -> Exception:
    code = error.code if isinstance(error, MilvusException) else None
    if code == _NOT_FOUND:
        return CollectionNotFound("its vectors are not there", field="collection")
    return error if code in _OUR_DEFECTS else DependencyUnavailable("the vector database does not answer")
