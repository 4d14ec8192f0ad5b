"""Calls that pymilvus has no method for, or none that takes and returns columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pymilvus.client import ts_utils
from pymilvus.client.utils import check_status
from pymilvus.decorators import retry_on_rpc_failure
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from improvement_service.vectors import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymilvus import AsyncMilvusClient

    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.schema import Row


class Calls:
    """Calls by the connection of a client; they fail and are tried again as its own are."""

    def __init__(self, client: AsyncMilvusClient) -> None:
        self._client = client

    async def clock(self, _name: str, **patience: float) -> int:
        """Return the time on the clock of Milvus; 0 on Milvus Lite, which has none."""
        connection = await self._connection()
        return int(await connection.alloc_timestamp(**patience))

    async def upsert(self, name: str, *, rows: Sequence[Row], **patience: float) -> None:
        """Add or replace rows."""
        connection, context = await self._connection(), self._context()
        request = milvus_pb2.UpsertRequest(collection_name=name, num_rows=len(rows), fields_data=columns.pack(rows))
        await connection.upsert(name, [], context=context, upsert_param=request, **patience)

    @retry_on_rpc_failure()  # type: ignore[untyped-decorator]
    async def query(
        self, name: str, *, condition: str, fields: Sequence[str], limit: int, written_until: int, **patience: float
    ) -> list[Row]:
        """Return up to `limit` rows that meet `condition`, in the order of their primary keys.

        All that was written until `written_until` is seen, on the clock of Milvus; until now when that is 0, for which
        a server waits 0.2 s.
        """
        connection, context = await self._connection(), self._context()
        request = milvus_pb2.QueryRequest(
            collection_name=name,
            expr=condition,
            output_fields=fields,
            guarantee_timestamp=written_until,
            consistency_level=common_pb2.Customized if written_until else common_pb2.Strong,
            query_params=[common_pb2.KeyValuePair(key="limit", value=str(limit))],
        )
        found = await connection._async_stub.Query(  # noqa: SLF001
            request, metadata=context.to_grpc_metadata(), **patience
        )
        check_status(found.status)
        return columns.unpack(found.fields_data)

    @retry_on_rpc_failure()  # type: ignore[untyped-decorator]
    async def search(
        self,
        name: str,
        *,
        query: Floats,
        condition: str,
        fields: Sequence[str],
        limit: int,
        parameters: Mapping[str, int],
        **patience: float,
    ) -> list[tuple[float, Row]]:
        """Return the nearest rows that meet `condition` with what Milvus says of their distance, nearest first.

        What this process wrote is seen; what others wrote, a moment later.
        """
        connection, context = await self._connection(), self._context()
        written = ts_utils.get_collection_ts(name, connection.server_address, context.get_db_name())
        asked = {"topk": limit, "params": json.dumps(parameters), "round_decimal": -1}
        vector = common_pb2.PlaceholderValue(
            tag="$0", type=common_pb2.PlaceholderType.FloatVector, values=[query.astype("<f4", copy=False).tobytes()]
        )
        request = milvus_pb2.SearchRequest(
            collection_name=name,
            dsl=condition,
            dsl_type=common_pb2.BoolExprV1,
            placeholder_group=common_pb2.PlaceholderGroup(placeholders=[vector]).SerializeToString(),
            output_fields=fields,
            search_params=[common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in asked.items()],
            nq=1,
            guarantee_timestamp=written or ts_utils.get_eventually_ts(),
            consistency_level=common_pb2.Session,
        )
        found = await connection._async_stub.Search(  # noqa: SLF001
            request, metadata=context.to_grpc_metadata(), **patience
        )
        check_status(found.status)
        return list(zip(found.results.scores, columns.unpack(found.results.fields_data), strict=True))

    async def _connection(self) -> Any:
        return await self._client._get_connection()  # noqa: SLF001

    def _context(self) -> Any:
        # Names the database that the client was opened for.
        return self._client._generate_call_context()  # noqa: SLF001
