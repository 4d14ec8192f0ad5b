"""Receipts of erasures as messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tideline.clickstream.v1 import privacy_service_pb2 as pb
from tideline.rpc.structs import datetime_to_pb

if TYPE_CHECKING:
    from clickstream_service.domain.erasure import Erasure


def receipt_to_pb(erasure: Erasure) -> pb.ErasureReceipt:
    finished = erasure.finished_at is not None
    message = pb.ErasureReceipt(
        erasure_id=erasure.erasure_id,
        state=pb.ERASURE_STATE_FINISHED if finished else pb.ERASURE_STATE_RUNNING,
        erased=erasure.erased,
    )
    datetime_to_pb(erasure.requested_at, message.requested_at)
    if erasure.finished_at is not None:
        datetime_to_pb(erasure.finished_at, message.finished_at)
    return message
