"""What to do with a stack that is left running: its addresses, and calls to begin with."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.stack import Stack
    from deploy.local.world import User, World


def first_calls(stack: Stack, collection: str, world: World, user: User, user_id: str) -> str:
    """Commands that work as they are, from the top folder of the project, for a `user` known as `user_id`."""
    query = user.queries["train"][0]
    vector = [round(float(number), 6) for number in world.query_vectors[query]]
    search = stack.folder / "search.json"
    search.write_text(
        json.dumps({"collection": collection, "queryVector": vector, "userId": user_id, "limit": 5}), encoding="utf-8"
    )
    session: dict[str, object] = {
        "session": {
            "userId": user_id,
            "collection": collection,
            "searchQuery": {"text": world.queries[query]},
            "searchResults": [{"objectId": world.items[row]["object_id"]} for row in sorted(user.relevant[query])[:3]],
        }
    }
    addresses = "\n".join(f"  {name:14}{address}" for name, address in stack.addresses().items())
    return "\n\n".join(
        [
            f"The stack is up until Ctrl-C:\n{addresses}",
            f"Search for “{world.queries[query]}” as {user_id}:",
            _curl(stack, stack.improvement.address, "tideline.improvement.v1.SearchService/Search", search),
            "Record a session:",
            _curl(stack, stack.clickstream.address, "tideline.clickstream.v1.SessionService/CreateSession", session),
        ]
    )


def _curl(stack: Stack, address: str, method: str, request: Path | dict[str, object]) -> str:
    data = json.dumps(request, ensure_ascii=False) if isinstance(request, dict) else f"@{request}"
    scheme, flags = "http", "--http2-prior-knowledge"
    if (secured := stack.protection) is not None:
        scheme = "https"
        flags = f'--cacert {secured.ca} \\\n  --header "Authorization: Bearer $(cat {secured.admin})"'
    return (
        f".venv/bin/buf curl --schema protos --protocol grpc {flags} \\\n"
        f"  --data {shlex.quote(data)} \\\n"
        f"  {scheme}://{address}/{method}"
    )
