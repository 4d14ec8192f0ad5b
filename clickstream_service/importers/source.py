"""A file to import: its lines, and how much of it is read."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_MIB: Final = 1024 * 1024


class Line(NamedTuple):
    """A line without its end; `text` is None when it is not UTF-8."""

    number: int
    text: str | None
    raw: bytes

    @property
    def readable(self) -> str:
        """The line as far as it can be shown."""
        return self.raw.decode(errors="backslashreplace")


class Source:
    """A text file, which may be compressed by gzip. An importer may read it more than once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.position = 0
        """How many bytes of the file, as it lies there, the present reading has got through."""

    def lines(self) -> Iterator[Line]:
        """Yield all lines that are not blank; raises `OSError` or `EOFError` when the file is damaged."""
        with self.path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            lines = gzip.GzipFile(fileobj=file) if compressed else file
            for number, line in enumerate(lines, 1):
                self.position = file.tell()
                raw = line.rstrip(b"\r\n")
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                if raw.strip():
                    yield Line(number, _decoded(raw), raw)

    def fingerprint(self) -> str:
        """Return what tells this file from another: a hash of its length and its beginning."""
        with self.path.open("rb") as file:
            beginning = file.read(_MIB)
        return hashlib.sha256(self.size.to_bytes(8, "big") + beginning).hexdigest()


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
