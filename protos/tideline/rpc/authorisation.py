"""Who may call what: `allowed_to` of the methods in the contract."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool

from tideline.common.v1 import access_pb2
from tideline.errors import PermissionDenied
from tideline.rpc.identity import ADMIN

if TYPE_CHECKING:
    from tideline.rpc.identity import Identity


@lru_cache(maxsize=1024)
def allowed_to(method: str) -> frozenset[str]:
    """Return the roles that may call a method, given as `/package.Service/Method`; none when it has no rule."""
    service, _, name = method.removeprefix("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return frozenset()
    roles = found.GetOptions().Extensions[access_pb2.allowed_to]
    named = {access_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in roles}
    return frozenset(named | {ADMIN}) if named else frozenset()


def check(identity: Identity, method: str) -> None:
    """Raise `PermissionDenied` unless `identity` may call `method`."""
    roles = allowed_to(method)
    if not roles & identity.roles:
        said = f"is for the roles {', '.join(sorted(roles))}" if roles else "has no rule about who may call it"
        raise PermissionDenied(f"this method {said}")
