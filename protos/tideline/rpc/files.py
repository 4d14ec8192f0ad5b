"""Files that are read again when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from tideline.errors import Misconfigured
from tideline.rpc.file_versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Watched(Generic[_T]):
    """What some files say together, as it is now; when what they say now is bad, what they said last.

    Looking costs a `stat` a file. A file that is put in the place of another one counts as a change, so files may be
    links that are switched over, as those of mounted secrets are.
    """

    def __init__(self, paths: Sequence[Path], parse: Callable[[Sequence[bytes]], _T]) -> None:
        """Read the files; `parse` is given what they hold, in their order, and raises `Misconfigured` when it is bad.

        Raises `Misconfigured` when they cannot be read, or are bad.
        """
        self._paths = paths
        self._parse = parse
        self._version = version_of(paths)
        self._said = self._read()

    def current(self) -> _T:
        """Return what the files say, reading them when they were changed. Does not raise."""
        version = version_of(self._paths)
        if version != self._version:
            # A bad version is told of once.
            self._version = version
            try:
                self._said = self._read()
            except Misconfigured as bad:
                _log.error("changed files are not taken; what they said before goes on", cause=str(bad))
            else:
                _log.info("changed files are taken", files=[str(path) for path in self._paths])
        return self._said

    def _read(self) -> _T:
        try:
            held = [path.read_bytes() for path in self._paths]
        except OSError as error:
            raise Misconfigured(f"cannot read {error.filename}: {error.strerror}") from error
        try:
            return self._parse(held)
        except Misconfigured as bad:
            raise Misconfigured(f"{', '.join(str(path) for path in self._paths)}: {bad}") from bad
