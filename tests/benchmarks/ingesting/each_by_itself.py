"""The service without group commit: each call writes what it brings by itself, at the same time as others."""

from __future__ import annotations

from typing import Any

from clickstream_service.storage.group_commit import GroupCommit
from tideline.cli import main


async def _submit(self: GroupCommit[Any, Any], items: Any, *, patient: bool = False) -> list[Any]:
    return list(await self._write(items))


if __name__ == "__main__":
    GroupCommit.submit = _submit  # type: ignore[method-assign]
    raise SystemExit(main())
