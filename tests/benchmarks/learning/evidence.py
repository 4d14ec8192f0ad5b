"""Evidence of a given size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from improvement_service.adjust.evidence import Evidence

if TYPE_CHECKING:
    from improvement_service.adjust.evidence import Floats

ITEMS = 20
"""How many items a session shows, of one to four parts each; it speaks for the first three."""


def sessions(count: int, dimension: int, seed: int = 0) -> Evidence:
    """Return `count` sessions that each speak of items of their own."""
    rng = np.random.default_rng(seed)
    items = count * ITEMS
    item_of_row = np.repeat(np.arange(items), rng.integers(1, 5, items))
    place = np.arange(items) % ITEMS
    positive = place < 3
    return Evidence(
        vectors=unit(rng.standard_normal((len(item_of_row), dimension))),
        item_of_row=item_of_row,
        queries=unit(rng.standard_normal((count, dimension))),
        session=np.repeat(np.arange(count), ITEMS),
        item=np.arange(items),
        positive=positive,
        weight=np.where(positive, 1.0, 1.0 / (1 + place)).astype(np.float32),
    )


def unit(rows: np.ndarray) -> Floats:
    """Return `rows` [N, D] at length 1, as float32."""
    scaled: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled
