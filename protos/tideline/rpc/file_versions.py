"""Whether files are still those that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Version = tuple[tuple[int, int, int], ...]


def version_of(paths: Sequence[Path]) -> Version | None:
    """Return something that differs once one of these files was changed, or put in place of another; None without one.

    It costs a `stat` a file, and follows links: those of mounted secrets are switched over.
    """
    try:
        found = [path.stat() for path in paths]
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in found)
