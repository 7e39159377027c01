"""A request's client address, as reported by trusted proxies.

A proxy appends the address that connected to it, so the list is read from its end up to the first untrusted hop: the
client may have forged everything before it. Only the field that the proxies write is read, as they pass others through
unchanged.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from ollama_router_core.access.addresses import read_address

__all__ = ["ForwardedField", "Proxies"]

ForwardedField = Literal["x-forwarded-for", "forwarded"]

_MOST_HOPS: Final = 32
_MOST_KNOWN: Final = 4096
_FOR = re.compile(r'(?:^|[;\s])for=(?:"([^"\\]*)"|([^\s;,"]*))', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}", re.ASCII)


class Proxies:
    """Networks of trusted proxies.

    Args:
        networks: in CIDR form, or single addresses.
        field: the header field that the proxies write.

    Raises:
        ValueError: a text is not a network.
    """

    __slots__ = ("_field", "_networks", "_trusted")

    def __init__(self, networks: Iterable[str], field: ForwardedField = "x-forwarded-for") -> None:
        self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in networks)
        self._field = field.encode()
        self._trusted: dict[str, bool] = {}

    def client(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Return the client's address: `peer`, unless that is a trusted proxy that forwards another address.

        At a hop that is not an address (`unknown`, a name), the address of the proxy that wrote it is returned.
        """
        if peer is None or not self._networks or not self.trusts(peer):
            return peer
        nearest = peer
        for text in self._hops(headers):
            address = _address(text)
            if address is None:
                return nearest
            nearest = address
            if not self.trusts(address):
                return address
        return nearest

    def _hops(self, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[str]:
        """Yield the forwarded addresses, nearest hop first."""
        lines = [value.decode("latin-1") for name, value in headers if name == self._field]
        elements = ",".join(lines).split(",")[-_MOST_HOPS:] if lines else []
        for element in reversed(elements):
            if self._field == b"forwarded":
                found = _FOR.search(element)
                yield (found[1] or found[2] or "") if found else ""
            else:
                yield element

    def trusts(self, address: str) -> bool:
        """Return whether an address is a trusted proxy's."""
        known = self._trusted.get(address)
        if known is None:
            parsed = read_address(address)
            known = parsed is not None and any(parsed in network for network in self._networks)
            if len(self._trusted) >= _MOST_KNOWN:
                self._trusted.clear()
            self._trusted[address] = known
        return known


def _address(text: str) -> str | None:
    text = text.strip()
    found = _WITH_PORT.fullmatch(text)
    parsed = read_address((found[1] or found[2]) if found else text)
    return None if parsed is None else str(parsed)
