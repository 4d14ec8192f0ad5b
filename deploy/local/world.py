"""People, what they search for, and what they would be glad to find: a folder with `world.json` and `vectors.npz`.

`world.json` holds three lists (queries and items are referred to by their place in them, counted from 0):

- items: `{"object_id", "title", "text"}`
- queries: texts
- users: `{"user_id", "train": [query, ...], "reworded": [...], "similar": [...], "unrelated": [...],
  "relevant": {query: [item, ...]}}`

`vectors.npz` holds `items` [N, D] and `queries` [Q, D]: unit vectors in the order of the lists.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Vectors = NDArray[np.float32]

CATALOGUE = Path(__file__).with_name("catalogue")
"""The world that comes with the demo; its people are simulated."""
ROLES = {
    "train": "learned",
    "reworded": "reworded",
    "similar": "similar",
    "unrelated": "unrelated",
}
"""What a query is to a user, by its name in the file, and what we call it."""


@dataclass(frozen=True)
class User:
    """Somebody with queries by role, and for each the rows of the items that this user wants to find."""

    user_id: str
    queries: Mapping[str, Sequence[int]]
    relevant: Mapping[int, frozenset[int]]


@dataclass(frozen=True)
class World:
    """All there is to search, `item_vectors` [N, D] and `query_vectors` [Q, D] included."""

    items: Sequence[Mapping[str, str]]
    queries: Sequence[str]
    users: Sequence[User]
    item_vectors: Vectors
    query_vectors: Vectors
    simulated: bool


def load(folder: Path) -> World:
    """Read a world; raises `ValueError` when its lists and vectors do not fit together."""
    content: dict[str, Any] = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    with np.load(folder / "vectors.npz") as arrays:
        item_vectors, query_vectors = (arrays[name].astype(np.float32) for name in ("items", "queries"))
    if (len(item_vectors), len(query_vectors)) != (len(content["items"]), len(content["queries"])):
        raise ValueError(f"{folder}: vectors.npz has other rows than world.json has entries")
    return World(
        items=content["items"],
        queries=content["queries"],
        users=[_user(entry) for entry in content["users"]],
        item_vectors=item_vectors,
        query_vectors=query_vectors,
        simulated=folder.resolve() == CATALOGUE.resolve(),
    )


def _user(entry: Mapping[str, Any]) -> User:
    return User(
        user_id=entry["user_id"],
        queries={role: entry.get(role, []) for role in ROLES},
        relevant={int(query): frozenset(rows) for query, rows in entry["relevant"].items()},
    )
