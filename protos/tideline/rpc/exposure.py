"""Which addresses other machines reach."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address such as `127.0.0.1:50051`, `[::1]:50051` or `unix:/run/it`."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    try:
        host = urlsplit(f"//{address}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
