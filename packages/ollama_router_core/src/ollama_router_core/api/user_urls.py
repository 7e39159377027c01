"""Detection of private addresses in users' URLs that a server would fetch (SSRF).

Only the text is checked: a public name may still resolve to a private address.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import unquote

__all__ = ["leads_inside"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_IGNORED = re.compile(r"[\x00-\x20\x7f]+")  # ignored by parsers that follow browsers
_AUTHORITY = re.compile(r"[/\\]*([^/\\?#]*)")
_INSIDE = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "corp", "private")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_LONGEST = 4096  # characters checked; a longer text is data or no real address
_LONGEST_AUTHORITY = 300  # a host name has at most 253; a longer authority hides it
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def leads_inside(url: str) -> bool:
    """Return whether a text is a URL other than `data:` and public http(s): `file:`, private, a bare name."""
    text = _IGNORED.sub("", url[:_LONGEST])
    found = _SCHEME.match(text)
    if found is None:
        return text.startswith(("//", "\\\\"))
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme in {"http", "https"}:
        authority = _authority(rest)
        return len(authority) > _LONGEST_AUTHORITY or _is_inside(_host(authority))
    return scheme != "data"


def _authority(rest: str) -> str:
    found = _AUTHORITY.match(rest)
    return found[1] if found else ""


def _host(authority: str) -> str:
    host = unquote(authority).rpartition("@")[2]
    folded = unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower()
    if folded.startswith("["):
        return folded[1:].partition("]")[0]
    return folded.partition(":")[0].rstrip(".")


def _is_inside(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return not _is_public(address)
    return "." not in host or host.endswith(tuple(f".{name}" for name in _INSIDE)) or not host.isprintable()


def _address(host: str) -> _Address | None:
    """Parse a host that is an IP address, in any notation of the C library; None for a name."""
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            return ipaddress.IPv6Address(0)  # no name either
    parts = host.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    numbers = [_number(part) for part in parts]
    if any(number is None for number in numbers):
        return ipaddress.IPv4Address(0)
    *heads, last = (number or 0 for number in numbers)
    value = sum(head << (24 - 8 * index) for index, head in enumerate(heads)) + last
    return ipaddress.IPv4Address(value) if value < 1 << 32 else ipaddress.IPv4Address(0)


def _number(text: str) -> int | None:
    base = 16 if text[:2] in {"0x", "0X"} else 8 if text.startswith("0") else 10
    try:
        return int(text[2:] or "0", 16) if base == 16 else int(text, base)
    except ValueError:
        return None


def _is_public(address: _Address) -> bool:
    inner = _inner(address)
    if inner is not None:
        return _is_public(inner)
    return address.is_global and not address.is_multicast


def _inner(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address, or None."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
