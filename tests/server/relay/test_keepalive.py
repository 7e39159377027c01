"""Signs of life while a stream has nothing to say (`load_keepalive`), over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, Silence, model
from support.eventually import eventually
from support.faulty_ollama import MODEL, STREAM, chunk, entry, faulty_ollama, length_of
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router import RunningRouter, running_router, server_entry
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

EVERY = 0.05
LINE = b'{"message":{"role":"assistant","content":"hello"},"done":false}\n'
LAST = b'{"message":{"role":"assistant","content":""},"done":true}\n'
EVENT = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
MESSAGE = b'event: message_start\ndata: {"type":"message_start"}\n\n'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
DIALECTS = {
    "/api/chat": (b'"content":""},"done":false}\n', LINE, "application/x-ndjson"),
    "/api/generate": (b'"response":"","done":false}\n', LINE, "application/x-ndjson"),
    "/v1/chat/completions": (b": keepalive\n\n", EVENT, "text/event-stream"),
    "/v1/messages": (PING, MESSAGE, "text/event-stream"),
}


class Loading:
    """A server whose model is being loaded until `then` is set; it is sent as the answer, b"" resets."""

    def __init__(self) -> None:
        self.then: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked = 0

    def server(self) -> ScriptedServer:
        """The server."""
        return faulty_ollama(self._answer)

    async def _answer(self, peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        self.asked += 1
        answer = await self.then
        if answer:
            await peer.send(answer)
        else:
            peer.reset()
        return False


def stream(*pieces: bytes) -> bytes:
    """A streamed answer."""
    return STREAM + b"".join(chunk(piece) for piece in pieces) + chunk(b"")


def refusal(status: str, text: str) -> bytes:
    """An error answer of a server."""
    body = json.dumps({"error": text}).encode()
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


@asynccontextmanager
async def stage(
    folder: Path, *names: str, **config: Any
) -> AsyncIterator[tuple[RunningRouter, RawClient, dict[str, Loading]]]:
    """A router over servers that load, the first one preferred, and a client that has connected."""
    servers = {name: Loading() for name in names}
    async with AsyncExitStack() as stack:
        entries = {}
        for priority, (name, loading) in enumerate(servers.items(), 1):
            entries[name] = entry(await stack.enter_async_context(loading.server()), priority=priority)
        settings = {"load_keepalive": EVERY, **config}
        router = await stack.enter_async_context(running_router(folder, entries, **settings))
        client = await stack.enter_async_context(RawClient.open(router.port))
        yield router, client, servers


async def ask(router: RunningRouter, client: RawClient, path: str = "/api/chat", **more: object) -> None:
    """A streamed request on a connection that closes."""
    body = json.loads(chat(**{"stream": True, "max_tokens": 9, **more}))
    data = request_bytes(router.token, json.dumps(body).encode(), path=path, headers={"Connection": "close"})
    await client.send(data)


def heard(client: RawClient, sign: bytes, times: int = 2) -> Callable[[], bool]:
    """Whether so many signs have come."""
    return lambda: bytes(client.received).count(sign) >= times


async def listen(client: RawClient, sign: bytes, times: int = 2) -> None:
    """Read until so many signs have come."""
    while not heard(client, sign, times)():
        await client.until(sign)


@pytest.mark.parametrize("path", DIALECTS)
async def test_signs_come_until_the_answer_does(tmp_path: Path, path: str) -> None:
    """One head, signs at the interval, then the server's bytes as they are."""
    sign, piece, content_type = DIALECTS[path]
    async with stage(tmp_path, "one") as (router, client, servers):
        await ask(router, client, path)
        await listen(client, sign)
        servers["one"].then.set_result(stream(piece, ENDS[path]))
        answer = parsed(await client.to_end())
    assert (answer.status, answer.complete) == (200, True)
    assert answer.fields["content-type"] == content_type
    assert answer.fields["x-accel-buffering"] == "no"
    assert answer.body.endswith(sign + piece + ENDS[path])
    assert answer.body.removesuffix(piece + ENDS[path]).count(sign) >= 2
    assert bytes(client.received).count(b"HTTP/1.1 ") == 1


async def test_signs_are_no_output(tmp_path: Path) -> None:
    """The row counts the server's bytes and the time to its first one."""
    async with stage(tmp_path, "one") as (router, client, servers):
        await ask(router, client)
        await listen(client, b'"done":false}\n', times=4)
        servers["one"].then.set_result(stream(LINE, LAST))
        await client.to_end()
        (row,) = await router.rows()
    assert row.status == 200
    assert row.bytes_out == len(LINE + LAST)
    assert row.ttft_ms is not None
    assert row.ttft_ms >= 3 * EVERY * 1000


@pytest.mark.parametrize("more", [{"stream": False}, {}])
async def test_none_without_the_setting_and_none_for_whole_answers(tmp_path: Path, more: dict[str, object]) -> None:
    """Nothing is written before the server answers, and its status is the client's."""
    config = {} if more else {"load_keepalive": None}
    async with stage(tmp_path, "one", **config) as (router, client, servers):
        await ask(router, client, **more)
        await eventually(lambda: servers["one"].asked == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(6 * EVERY):
                await client.reader.read(1)
        servers["one"].then.set_result(refusal("404 Not Found", "no such model"))
        answer = parsed(await client.to_end())
    assert answer.status == 404


async def test_signs_come_while_a_prompt_is_read(tmp_path: Path) -> None:
    """The model is in memory: what takes long is not known, and does not matter to who waits."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as server,
        running_router(tmp_path, {"one": server_entry(server)}, load_keepalive=EVERY) as router,
        router.client() as other,
        RawClient.open(router.port) as client,
    ):
        assert (await other.post("/api/chat", content=chat(stream=False))).status_code == 200
        server.misbehave(Silence(), path="/api/chat")
        await ask(router, client)
        await listen(client, DIALECTS["/api/chat"][0])


class Pausing:
    """A server that sends pieces, and before the last waits until `then` is set."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.then = asyncio.Event()

    def server(self) -> ScriptedServer:
        """The server."""
        return faulty_ollama(self._answer)

    async def _answer(self, peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(STREAM, *(chunk(piece) for piece in self.pieces[:-1]))
        await self.then.wait()
        await peer.send(chunk(self.pieces[-1]), chunk(b""))


STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ENDS = {
    "/api/chat": LAST,
    "/api/generate": b'{"response":"","done":true}\n',
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/messages": STOP,
}


@pytest.mark.parametrize("path", DIALECTS)
async def test_signs_come_while_a_call_is_written(tmp_path: Path, path: str) -> None:
    """In the middle of an answer, between two lines or events; the server's bytes are all there."""
    sign, piece, _ = DIALECTS[path]
    pausing = Pausing(piece, ENDS[path])
    async with (
        pausing.server() as server,
        running_router(tmp_path, {"one": entry(server)}, load_keepalive=EVERY) as router,
        RawClient.open(router.port) as client,
    ):
        await ask(router, client, path)
        await listen(client, sign)
        pausing.then.set()
        answer = parsed(await client.to_end())
    assert answer.complete
    assert answer.body.startswith(piece)
    assert answer.body.endswith(sign + ENDS[path])


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/messages"])
@pytest.mark.parametrize("at", [1, -1])
async def test_no_sign_stands_inside_a_line(tmp_path: Path, path: str, at: int) -> None:
    """A server that pauses in a line or event: what was begun is completed first. Chat completions come by events."""
    _, piece, _ = DIALECTS[path]
    pausing = Pausing(piece[:at], piece[at:] + ENDS[path])
    async with (
        pausing.server() as server,
        running_router(tmp_path, {"one": entry(server)}, load_keepalive=EVERY) as router,
        RawClient.open(router.port) as client,
    ):
        await ask(router, client, path)
        await client.until(b"\r\n\r\n")
        await client.until(piece[:at] + b"\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(6 * EVERY):
                await client.reader.read(1)
        pausing.then.set()
        answer = parsed(await client.to_end())
    assert answer.body == piece + ENDS[path]


async def test_signs_do_not_prolong_the_silence_that_is_borne(tmp_path: Path) -> None:
    """`idle_timeout` counts from the server's last byte, whatever the router writes meanwhile."""
    pausing = Pausing(LINE, LAST)
    async with (
        pausing.server() as server,
        running_router(tmp_path, {"one": entry(server)}, load_keepalive=EVERY, idle_timeout=8 * EVERY) as router,
        RawClient.open(router.port) as client,
    ):
        await ask(router, client)
        async with asyncio.timeout(10):
            answer = parsed(await client.to_end())
        (row,) = await router.rows()
    assert not answer.complete
    assert row.error_code == "upstream_timeout"


async def test_the_next_server_goes_on_with_the_same_answer(tmp_path: Path) -> None:
    """What the first one refused before it did anything is tried elsewhere, with signs and without a second head."""
    sign = DIALECTS["/api/chat"][0]
    async with stage(tmp_path, "one", "two") as (router, client, servers):
        await ask(router, client)
        await listen(client, sign)
        servers["one"].then.set_result(refusal("503 Service Unavailable", "busy"))
        await eventually(lambda: servers["two"].asked == 1)
        await listen(client, sign, times=5)
        servers["two"].then.set_result(stream(LINE, LAST))
        answer = parsed(await client.to_end())
        (row,) = await router.rows()
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body.endswith(sign + LINE + LAST)
    assert (row.server, row.attempts, row.error_code) == ("two", 2, None)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/chat", b'{"error":"model failed to load"}\n'),
        ("/v1/chat/completions", b'data: {"error":{"message":"model failed to load"'),
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"model failed'),
    ],
)
async def test_an_error_of_the_server_ends_the_stream(tmp_path: Path, path: str, said: bytes) -> None:
    """In the words of the server and the dialect of the route; the stream is cut, never ended as if complete."""
    sign = DIALECTS[path][0]
    async with stage(tmp_path, "one") as (router, client, servers):
        await ask(router, client, path)
        await listen(client, sign)
        servers["one"].then.set_result(refusal("500 Internal Server Error", "model failed to load"))
        answer = parsed(await client.to_end())
        (row,) = await router.rows()
    assert (answer.status, answer.complete) == (200, False)
    assert said in answer.body.rpartition(sign)[2]
    assert (row.status, row.error_code) == (200, "refused_late")
    assert "model failed" not in (row.error or ""), "what servers say stays out of the log"


async def test_a_server_that_breaks_off_ends_the_stream(tmp_path: Path) -> None:
    """The router's own error, in the stream."""
    async with stage(tmp_path, "one") as (router, client, servers):
        await ask(router, client)
        await listen(client, DIALECTS["/api/chat"][0])
        servers["one"].then.set_result(b"")
        answer = parsed(await client.to_end())
        (row,) = await router.rows()
    assert not answer.complete
    assert json.loads(answer.body.splitlines()[-1])["error"]
    assert row.error_code == "upstream_disconnected"


async def test_a_client_that_leaves_meanwhile_is_noticed(tmp_path: Path) -> None:
    """The server is let go at once."""
    async with stage(tmp_path, "one") as (router, client, servers):
        await ask(router, client)
        await listen(client, DIALECTS["/api/chat"][0])
        client.reset()
        await eventually(lambda: router.services.fleet.running("one") == 0)
        (row,) = await router.rows()
        servers["one"].then.set_result(b"")
    assert (row.status, row.model_served) == (499, MODEL)
