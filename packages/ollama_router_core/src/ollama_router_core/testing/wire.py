"""HTTP/1.1 on a socket: connections and exchanges of a simulated server.

Reads requests with h11 (bodies lazily, `100-continue` on demand), writes responses with the framing of Go's net/http,
detects disconnects at once, and performs faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

import h11

from ollama_router_core.testing.exchange import Exchange, HangUp
from ollama_router_core.testing.faults import Fault, FaultRules, Reset, Silence
from ollama_router_core.testing.recording import RecordedRequest

__all__ = ["Connection", "Handler"]

Handler = Callable[[Exchange], Awaitable[None]]

_HEADER_LIMIT = 1 << 20  # Go's DefaultMaxHeaderBytes
_READ_SIZE = 1 << 16
_DRAIN_LIMIT = 256 << 10  # Go reads this much of an unread body before it closes the connection
_LINGER_SECONDS = 0.5


class Connection:
    """One accepted connection, with its sequential requests."""

    def __init__(
        self,
        *,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        faults: FaultRules,
        record: Callable[[RecordedRequest], None],
    ) -> None:
        self._number = number
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._faults = faults
        self._on_request = record
        self._awaits_continue = False  # the client waits for `100 Continue` before it sends its body
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_LIMIT)

    async def run(self) -> None:
        """Serve until the client or a fault ends the connection."""
        try:
            fault = self._faults.for_connection()
            if fault is not None:
                await self._before_request(fault)
            while await self._serve_one():
                self._http.start_next_cycle()
        except HangUp as hang_up:
            self._hang_up(reset=hang_up.reset)
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._writer.wait_closed()

    async def _before_request(self, fault: Fault) -> None:
        if isinstance(fault, Reset):
            raise HangUp(reset=True)
        if isinstance(fault, Silence):
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket transport can
            await asyncio.Event().wait()

    async def _serve_one(self) -> bool:
        """Serve the next request; return whether another may follow on this connection."""
        event = await self.next_event()
        if not isinstance(event, h11.Request):
            return False
        self._awaits_continue = self._http.they_are_waiting_for_100_continue
        record = self._record(event)
        fault = self._faults.for_request(record.method, record.path)
        exchange = Exchange(connection=self, record=record, fault=fault)
        if not _has_body(record):
            await exchange.body()
        if not await self._handle(exchange):
            return False
        return await self._ready_for_next()

    def _record(self, event: h11.Request) -> RecordedRequest:
        record = RecordedRequest(
            method=event.method.decode("ascii"),
            target=event.target.decode("latin-1"),
            http_version=event.http_version.decode("ascii"),
            headers=tuple(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()
            ),
            connection=self._number,
        )
        self._on_request(record)
        return record

    async def _handle(self, exchange: Exchange) -> bool:
        """Run the handler, and cancel it when the client disconnects."""
        work = asyncio.ensure_future(self._handler(exchange))
        watch = asyncio.ensure_future(self._watch(exchange, work))
        try:
            await work
        except asyncio.CancelledError:
            if not exchange.record.aborted:
                raise
            return False
        except ConnectionError:
            exchange.record.aborted = True
            return False
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)
        return exchange.record.finished

    async def _watch(self, exchange: Exchange, work: asyncio.Future[None]) -> None:
        """After the request is complete, keep reading to detect a disconnect."""
        await exchange.request_complete.wait()
        while not work.done():
            data = await self._read()
            self._http.receive_data(data)
            if not data:
                if not exchange.record.finished:
                    exchange.record.aborted = True
                    work.cancel()
                return

    async def _ready_for_next(self) -> bool:
        if self._http.their_state is h11.SEND_BODY:
            await self._drain_body()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _drain_body(self) -> None:
        """Read and discard the rest of the body, or close gracefully if it is too large."""
        drained = 0
        while drained < _DRAIN_LIMIT and not self._awaits_continue:
            event = await self.next_event()
            if not isinstance(event, h11.Data):
                return
            drained += len(event.data)
        await self._linger()

    async def _linger(self) -> None:
        """Close the write side first and keep reading briefly, as a close with unread bytes would send an RST."""
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._read():
                    pass

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """Return the client's next event.

        Raises:
            h11.RemoteProtocolError: the data is not HTTP/1.1.
        """
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # h11 types its sentinels loosely
            self._http.receive_data(await self._read())

    async def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for it."""
        if self._http.they_are_waiting_for_100_continue:
            self._awaits_continue = False
            await self.write(self.frame(h11.InformationalResponse(status_code=100, headers=[], reason="Continue")))

    def frame(self, event: h11.Event) -> bytes:
        """Return the bytes of an h11 event without writing them."""
        return self._http.send(event) or b""

    async def write(self, data: bytes) -> None:
        """Write raw bytes to the socket."""
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_READ_SIZE)
        except ConnectionError:
            return b""

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            sock: socket.socket | None = self._writer.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Send the response of Go's server to an invalid request."""
        reason = {431: "Request Header Fields Too Large"}.get(error.error_status_hint, "Bad Request")
        status = f"{431 if error.error_status_hint == 431 else 400} {reason}"
        if "Host" in str(error):
            status += ": missing required Host header"
        head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            await self.write(f"HTTP/1.1 {status.partition(':')[0]}\r\n{head}{status}".encode("ascii"))
            await self._linger()


def _has_body(record: RecordedRequest) -> bool:
    return record.header("Transfer-Encoding") is not None or record.header("Content-Length") not in {None, "0"}
