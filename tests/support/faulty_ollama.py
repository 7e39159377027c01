"""A server that passes for Ollama when it is asked for facts, and answers everything else by a test's script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from support.scripted_server import Peer, ScriptedServer

__all__ = ["MODEL", "STREAM", "chunk", "entry", "facts_of", "faulty_ollama", "length_of", "whole"]

MODEL = "llama3.1:8b"
_TAGS = f'{{"models":[{{"name":"{MODEL}","model":"{MODEL}","size":1000,"digest":"ab","details":{{}}}}]}}'
_FACTS = {
    b"/api/version": b'{"version":"0.32.15"}',
    b"/api/tags": _TAGS.encode(),
    b"/api/ps": b'{"models":[]}',
    b"/api/show": b'{"capabilities":["completion"],"details":{},"model_info":{}}',
}

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
"""The head of a streamed answer."""

Script = Callable[[Peer, bytes], Awaitable[Any]]
"""Gets the server's end of a connection and a request's head; the connection closes when it returns `False`."""


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; the last one for b""."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes = b'{"done":true}') -> bytes:
    """A complete answer with a length."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def length_of(head: bytes) -> int:
    """The Content-Length of a request's head, 0 without one."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def facts_of(path: bytes) -> bytes | None:
    """What it answers when it is asked for facts, None for any other path."""
    return _FACTS.get(path)


def faulty_ollama(script: Script) -> ScriptedServer:
    """A server that has `MODEL`; `script` is called for every request that is not for facts."""

    async def serve(peer: Peer) -> None:
        while True:
            head = await peer.head()
            facts = facts_of(head.split(b" ")[1])
            if facts is not None:
                await peer.body(length_of(head))
                await peer.send(whole(facts))
            elif await script(peer, head) is False:
                return

    return ScriptedServer(serve)


def entry(server: ScriptedServer, **settings: Any) -> dict[str, Any]:
    """A config entry for the server."""
    return {"host": "127.0.0.1", "port": server.port, **settings}
