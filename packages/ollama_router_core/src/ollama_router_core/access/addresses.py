"""Addresses of clients as text, read in one way."""

from __future__ import annotations

import ipaddress

__all__ = ["IpAddress", "read_address"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_address(text: str) -> IpAddress | None:
    """The address that a text is, None where it is none; IPv4 within IPv6 (`::ffff:10.0.0.1`) is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows IPv4 clients so.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
