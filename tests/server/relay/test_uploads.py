"""One upload for several readers: in step, complete for each, and never more than a little ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ollama_router_core.errors import InvalidBody
from ollama_router_core.exchange.blobs import declared_length
from ollama_router_core.exchange.events import ClientLeft
from ollama_router_server.relay.uploads import Tee

pytestmark = pytest.mark.anyio


class Source:
    """A client's upload of numbered pieces; `taken` counts those that were taken from it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.taken = 0
        self._count = count
        self._error = error

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces, then the error if there is one."""
        for number in range(self._count):
            self.taken += 1
            yield b"%d," % number
        if self._error is not None:
            raise self._error


async def drain(tee: Tee, number: int) -> bytes:
    """Everything one reader gets."""
    return b"".join([piece async for piece in tee.readers[number]])


async def test_every_reader_gets_all_of_it() -> None:
    """In order, at whatever speed it reads."""
    source = Source(50)
    tee = Tee(source.pieces(), 3)
    *read, _ = await asyncio.gather(*(drain(tee, number) for number in range(3)), tee.pump())
    assert set(read) == {b"".join(b"%d," % number for number in range(50))}


async def test_a_slow_reader_slows_the_client_down() -> None:
    """Nothing piles up in the router."""
    source = Source(1000)
    tee = Tee(source.pieces(), 2)
    pump = asyncio.create_task(tee.pump())
    fast = asyncio.create_task(drain(tee, 0))
    slow = tee.readers[1]
    for _ in range(10):
        await slow.__anext__()
    for _ in range(100):
        await asyncio.sleep(0)
    assert source.taken <= 16
    tee.readers[1].leave()
    assert len(await fast) > 1000
    await pump


async def test_a_reader_that_stops_or_never_starts_holds_nobody_up() -> None:
    """A server that has the blob already answers without reading; one may be gone."""
    source = Source(200)
    tee = Tee(source.pieces(), 3)
    pump = asyncio.create_task(tee.pump())
    stops = tee.readers[1]
    await stops.__anext__()
    await stops.aclose()
    tee.readers[2].leave()
    assert (await drain(tee, 0)).count(b",") == 200
    await pump


async def test_a_client_that_leaves_breaks_every_reader() -> None:
    """None of them may end as if the upload were complete."""
    tee = Tee(Source(3, ClientLeft()).pieces(), 2)
    results = await asyncio.gather(drain(tee, 0), drain(tee, 1), tee.pump(), return_exceptions=True)
    assert [type(one) for one in results] == [ClientLeft, ClientLeft, type(None)]


async def test_when_nobody_reads_the_client_is_not_read_either() -> None:
    """All servers answered early."""
    source = Source(1000)
    tee = Tee(source.pieces(), 1)
    tee.readers[0].leave()
    await tee.pump()
    assert source.taken <= 2


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1_0", b"0x1", b"", b"1" * 19, b"1, 1"])
async def test_a_strange_length_is_refused(value: bytes) -> None:
    """It is sent on as the length of the upload."""
    with pytest.raises(InvalidBody):
        declared_length([(b"content-length", value)])
