"""Parsing of client addresses."""

from __future__ import annotations

import ipaddress

__all__ = ["IpAddress", "read_address"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_address(text: str) -> IpAddress | None:
    """Parse an IP address, or return None; an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes the IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 clients this way.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
