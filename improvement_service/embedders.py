"""Vectors of queries that come as text. Embedders plug in by an entry point in `tideline.embedders`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from improvement_service.domain.scoring import Floats

GROUP: Final = "tideline.embedders"
REMEMBERED: Final = 4_096
"""How many texts are not embedded again: people ask for the same things."""


class Embedder(Protocol):
    """What an entry point makes, called without arguments. It may block and need not be thread-safe."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return a vector for each text, [N, D]; the same for a text whatever the others are."""


class MiniLM:
    """sentence-transformers/all-MiniLM-L6-v2: 384 numbers, of length 1. Needs `pip install 'tideline[minilm]'`."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - an optional extra, slow to load

        self._model: Any = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return a vector for each text, [N, 384]."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


class Embedding:
    """An embedder in a thread, one call at a time, with a memory of the last texts.

    It is loaded by the first call, since models take seconds to load.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        self._entry_point = entry_point
        self._embedder: Embedder | None = None
        self._turn = asyncio.Lock()
        self._known: OrderedDict[str, Floats] = OrderedDict()

    async def embed(self, texts: Sequence[str]) -> list[Floats]:
        """Return a vector [D] for each text; raises whatever the embedder raises."""
        async with self._turn:
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            made = await asyncio.to_thread(self._embed, new) if new else {}
            vectors = [made[text] if text in made else self._known[text] for text in texts]
            for text, vector in zip(texts, vectors, strict=True):
                self._known[text] = vector
                self._known.move_to_end(text)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return vectors

    def _embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        if self._embedder is None:
            factory: Callable[[], Embedder] = self._entry_point.load()
            self._embedder = factory()
        vectors = np.asarray(self._embedder.embed(texts), dtype=np.float32)
        return dict(zip(texts, vectors, strict=True))


def load(name: str) -> Embedding:
    """Find the embedder of this name; raises `LookupError` when none is installed."""
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise LookupError(f"unknown embedder {name!r}; installed: {', '.join(sorted(found.names))}")
    return Embedding(found[name])
