"""What an upload of objects has to hold before any of it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from improvement_service.domain.errors import InvalidVector, StreamTooLarge
from improvement_service.domain.objects import as_json
from improvement_service.domain.scoring import complaint, mean, scored_parts
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Sequence

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import CatalogueObject

MOST_VECTORS: Final = 100_000
MOST_BYTES: Final = 256 * 1024 * 1024
MOST_PAYLOAD_BYTES: Final = 32 * 1024
MOST_PAYLOAD_FIELDS: Final = 1_000


class Upload:
    """The checked objects of an upload into one collection; of an object that came twice, the last."""

    def __init__(self, index: SearchIndex) -> None:
        self.index = index
        self.objects: dict[str, CatalogueObject] = {}
        self._vectors = 0
        self._bytes = 0

    def add(self, name: str, objects: Sequence[CatalogueObject]) -> None:
        """Check the objects of a message; `name` is the collection it names, if it does.

        Raises `InvalidVector`, `InvalidField` and `StreamTooLarge`. Paths count objects within their message.
        """
        if name not in {"", self.index.name}:
            raise InvalidField("must stay the same throughout a stream", field="collection")
        for number, one in enumerate(objects):
            self._check(one, f"objects[{number}]")
            self.objects[one.object_id] = one
        if self._vectors > MOST_VECTORS or self._bytes > MOST_BYTES:
            raise StreamTooLarge(
                "send it in several streams", facts={"most_vectors": str(MOST_VECTORS), "most_bytes": str(MOST_BYTES)}
            )

    def _check(self, one: CatalogueObject, path: str) -> None:
        payload_bytes = _payload_bytes(one, path)
        metric, dimension = self.index.metric, self.index.dimension
        for part, vector in enumerate(one.vectors):
            if wrong := complaint(metric, dimension, vector):
                raise InvalidVector(wrong, field=f"{path}.parts[{part}].vector")
        if sum(one.is_average) > 1:
            raise InvalidField("has more than one part that is_average", field=f"{path}.parts")
        if scored_parts(self.index.aggregation, one.is_average) is None and complaint(
            metric, dimension, mean(metric, one.vectors)
        ):
            raise InvalidVector("cancel out, so that their average has no direction", field=f"{path}.parts")
        self._vectors += len(one.vectors)
        self._bytes += sum(vector.nbytes for vector in one.vectors) + payload_bytes


def _payload_bytes(one: CatalogueObject, path: str) -> int:
    """Return how long the payload is as JSON; raises `InvalidField` when that cannot be kept."""
    field = f"{path}.payload"
    try:
        length = len(as_json(one.payload))
    except ValueError as error:
        raise InvalidField("has a number that is not finite", field=field) from error
    if length > MOST_PAYLOAD_BYTES:
        raise InvalidField(f"has more than {MOST_PAYLOAD_BYTES} bytes as JSON", field=field)
    if one.payload is not None and len(one.payload) > MOST_PAYLOAD_FIELDS:
        raise InvalidField(f"has more than {MOST_PAYLOAD_FIELDS} fields", field=field)
    return length
