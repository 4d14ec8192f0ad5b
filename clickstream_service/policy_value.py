"""Judging another ranker or policy by what was logged, before anybody sees its results."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from clickstream_service.domain.policy_value import Decisions, PolicyValue
    from clickstream_service.position_bias.off_policy import OffPolicyValue

CONFIDENCE: Final = 0.95


async def policy_value(groups: AsyncIterable[Decisions]) -> PolicyValue:
    """Return what the decisions of all groups say; what is kept meanwhile does not grow.

    Raises `InvalidField` for fewer than two decisions, and when only some of them have predictions.
    """
    # numpy takes a while to load, which nobody who starts a service should wait for.
    from clickstream_service.position_bias.off_policy import OffPolicyValue  # noqa: PLC0415

    added: OffPolicyValue | None = None
    count, predicted, confidence = 0, False, CONFIDENCE
    async for group in groups:
        if added is None:
            added, predicted = OffPolicyValue(group.clip or inf), group.predicted is not None
            confidence = group.confidence or CONFIDENCE
        if predicted != (group.predicted is not None):
            raise InvalidField("are for all decisions or for none", field="decisions[0].predicted_reward")
        await asyncio.to_thread(_add, added, group)
        count += len(group.reward)
    if added is None or count < 2:
        raise InvalidField("at least two decisions are needed", field="decisions")
    return added.value(confidence)


def _add(added: OffPolicyValue, group: Decisions) -> None:
    added.add(
        group.reward, group.logging, group.target, predicted=group.predicted, predicted_target=group.predicted_target
    )
