"""Simulated clicks: the examination hypothesis with a curve of 1 / rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from random import Random

SHOWN = 20
"""How many results a page shows."""
RELEVANT, IRRELEVANT = 0.9, 0.1
"""How likely a click is on a result that is looked at, wanted or not."""


def clicked_places(shown: Sequence[int], relevant: AbstractSet[int], chance: Random) -> list[int]:
    """Places, counted from 0, that are clicked: P(click) = 1 / rank x (0.9 if relevant else 0.1)."""
    return [
        place
        for place, item in enumerate(shown)
        if chance.random() < (RELEVANT if item in relevant else IRRELEVANT) / (place + 1)
    ]
