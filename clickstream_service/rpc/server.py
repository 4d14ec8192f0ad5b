"""The gRPC server of the service: which servicer answers for which service."""

from __future__ import annotations

from dataclasses import dataclass

from tideline.rpc.server import Server


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the servicers call; each service of the contract registers below."""


def build(use_cases: UseCases) -> Server:  # noqa: ARG001
    """Return a server that answers for all services of the clickstream contract."""
    return Server()
