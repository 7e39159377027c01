"""A name server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import dns.rrset

__all__ = ["Records", "name_server"]

Records = Mapping[tuple[str, str], list[str]]


class NameServer(asyncio.DatagramProtocol):
    """Answers from a table; a name that is not in it does not exist, and one without texts breaks."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers go out here."""
        self._transport = transport

    def datagram_received(self, data: bytes, address: object) -> None:
        """Answer a question."""
        query = dns.message.from_wire(data)
        (question,) = query.question
        answer = dns.message.make_response(query)
        name, kind = question.name.to_text(omit_final_dot=True), question.rdtype.name
        texts = self._records.get((name, kind))
        if texts:
            answer.answer.append(dns.rrset.from_text(question.name, 30, "IN", kind, *texts))
        elif texts is not None:
            answer.set_rcode(dns.rcode.REFUSED)
        elif not any(known == name for known, _ in self._records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), address)  # type: ignore[attr-defined]


@asynccontextmanager
async def name_server(records: Records) -> AsyncIterator[str]:
    """Its address."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(records), local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
